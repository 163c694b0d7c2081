import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest

from model.tasks import TASKS, TITLES
from pipelines.report.training import training_report
from pipelines.training.model_card import DEMONSTRATION, model_card
from tests.pipelines import report_run as run

VOID = {"meta", "br", "hr", "col"}
NASTY = "<script>alert('x')</script>\"&\u202e"


class Document(HTMLParser):
    """Reads a page strictly: every element closed in order, attributes collected."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"closes nothing: {tag}"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def shown(self) -> str:
        return " ".join(" ".join(self.text).split())


def report(rows: list[dict[str, Any]], **changes: Any) -> str:
    values = {
        "history": run.history(),
        "metrics": run.metrics(rows),
        "predictions": rows,
        "data_report": run.data_report(rows),
    }
    card = changes.pop("card", None)
    values |= changes
    card = card or model_card(run.facts(rows, metrics=values["metrics"]))
    return training_report(**values, card=card)


ROWS = run.predictions(240)


@pytest.fixture(scope="module")
def text() -> str:
    return report(ROWS)


@pytest.fixture(scope="module")
def document(text: str) -> Document:
    return Document(text)


def test_the_page_is_whole_and_its_links_and_ids_hold(document: Document) -> None:
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    targets = [attributes["href"] for attributes in document.all("a")]
    assert targets
    assert all(target[0] == "#" and target[1:] in ids for target in targets)
    labels = [a["aria-labelledby"] for _, a in document.elements if "aria-labelledby" in a]
    assert set(labels) <= set(ids)
    assert len(document.all("h1")) == 1
    assert document.all("html") == [{"lang": "en"}]


def test_nothing_comes_from_outside(text: str, document: Document) -> None:
    for tag, attributes in document.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "srcset", "style", "xlink:href"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert tag == "a" or "href" not in attributes
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    [policy] = [a["content"] for a in document.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


def test_it_is_made_for_phones_and_both_schemes(text: str, document: Document) -> None:
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        document.all("meta")
    )
    assert "prefers-color-scheme:dark" in text
    boxes = [a for a in document.all("div") if "scroll" in (a.get("class") or "").split()]
    assert len(boxes) == len(document.all("table"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_every_picture_is_well_formed_and_named(text: str) -> None:
    pictures = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(pictures) >= 5 + 5 + 7 + 2 + 4
    for picture in pictures:
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        assert root[0].tag.endswith("title")
        assert root[0].text


def test_figures_stand_with_their_intervals_and_undefined_ones_with_their_reason(
    document: Document,
) -> None:
    figures = run.metrics(ROWS)["splits"]["test"]
    overall = figures["overall"]["metrics"]["plcc"]
    assert f"{overall['value']:.3f}" in document.shown
    assert f"[{overall['low']:.3f}, {overall['high']:.3f}]" in document.shown
    assert "PLCC undefined" in document.shown
    for reason in (run.CONSTANT, run.NO_LABEL, "rater spread unknown"):
        assert reason in document.shown
    assert not re.search(r"\b(nan|None|inf)\b", document.shown)


def test_each_reason_stands_once_with_its_letter(text: str) -> None:
    results = text.split('id="results"', maxsplit=1)[1].split("<details", maxsplit=1)[0]
    marks = set(re.findall(r"undefined<sup>(\w)</sup>", results))
    notes = dict(re.findall(r"<li><sup>(\w)</sup> (.*?)</li>", results))
    assert marks == set(notes) == {"a", "b"}
    assert set(notes.values()) == {run.CONSTANT, run.NO_LABEL}


def test_the_chosen_epoch_incidents_and_settings_are_told(document: Document) -> None:
    assert "The dashed line marks epoch 27" in document.shown
    assert "explosion" in document.shown
    assert "not finite" in document.shown
    assert "genA/speaker_00/take_0000 (4) and 3 more" in document.shown
    assert "c0ffee00c0ffee00" in document.shown
    assert "seeded:1f2e3d4c5b6a7988" in document.shown
    assert "every label is missing; the task is not learned" in document.shown
    assert "SECRET" not in document.shown


def test_the_worst_videos_are_those_with_the_largest_error(text: str) -> None:
    pattern = r'<table[^>]*aria-label="Worst videos, overall quality">(.*?)</table>'
    [table] = re.findall(pattern, text, re.DOTALL)
    listed = re.findall(r"<code>(.*?)</code>", table)
    errors = {
        row["video_id"]: abs(row["overall_predicted"] - row["overall_label"])
        for row in ROWS
        if row["overall_label"] is not None
    }
    assert listed == sorted(errors, key=errors.__getitem__, reverse=True)[:20]
    assert 'Cross-modal consistency</summary><p class="quiet">No video has both values' in text


def test_tables_sort_by_buttons_and_carry_raw_values(document: Document) -> None:
    assert len(document.all("button")) > 20
    values = [a["data-v"] for a in document.all("td") if "number" in (a.get("class") or "").split()]
    assert len(values) > 100
    assert all(value == "" or float(value) is not None for value in values)
    assert "" in values  # undefined: sorted last


@pytest.mark.parametrize("flag", [True, False])
def test_the_warning_stands_if_and_only_if_it_is_a_demonstration(flag: bool) -> None:
    rows = run.predictions(60)
    metrics = run.metrics(rows, demonstration=flag)
    card = model_card(run.facts(rows, metrics=metrics, demonstration=flag))
    page = report(rows, metrics=metrics, card=card)
    document = Document(page)
    banners = [a for a in document.all("div") if a.get("class") == "banner"]
    assert len(banners) == flag
    assert (DEMONSTRATION in document.shown) is flag


def test_external_text_is_escaped_everywhere() -> None:
    rows = run.predictions(60)
    for row in rows:
        row["video_id"] = NASTY + row["video_id"]
        row["generator"] = row["speaker"] = NASTY
    metrics = run.metrics(rows)
    for tasks in metrics["splits"].values():
        tasks["overall"]["metrics"]["plcc"] |= {"value": None, "reason": NASTY}
    history = run.history()
    history["incidents"] = [{"step": 1, "kind": NASTY, "value": None, "clips": [[NASTY, 0]]}]
    data = {NASTY: NASTY, "a": {NASTY: [NASTY, NASTY * 3]}, "b": [{NASTY: NASTY}, {NASTY: 1}]}
    texts = {"preset": NASTY, "family": NASTY, "features": NASTY, "date": NASTY, "monitor": NASTY}
    card = model_card(
        run.facts(rows, metrics=metrics, backbones={NASTY: NASTY}, settings={NASTY: 1}, **texts)
    )
    page = report(rows, metrics=metrics, history=history, data_report=data, card=card)
    document = Document(page)
    assert page.count("<script") == len(document.all("script")) == 1
    assert "alert('x')" in document.shown


def test_a_table_of_arrow_gives_the_same_page() -> None:
    rows = run.predictions(60)
    plain = report(rows)
    columns = {
        name: pa.array([row[name] for row in rows], pa.float64())
        if name.endswith(("_label", "_predicted"))
        else [row[name] for row in rows]
        for name in rows[0]
    }
    assert report(rows, predictions=pa.table(columns)) == plain


def test_an_empty_run_has_a_page_that_says_so() -> None:
    nothing = {"tasks": list(TASKS), "splits": {}, "groups": {}, "bootstrap": {}}
    history = {"epochs": [], "steps": [], "incidents": []}
    card = model_card(run.facts([], metrics=nothing, splits={}, chosen_epoch=None))
    page = training_report(history, nothing, [], {}, card)
    shown = Document(page).shown
    for said in (
        "No held-out split was judged",
        "No epoch was finished",
        "No video of a held-out split was predicted",
        "every loss was finite",
    ):
        assert said in shown


def test_one_epoch_and_one_video_are_enough() -> None:
    rows = run.predictions(1)
    assert rows[0]["split"] == "test"
    assert run.FEW in Document(report(rows, history=run.history(1))).shown


def test_validation_stands_in_where_there_is_no_test_split() -> None:
    rows = [row for row in run.predictions(60) if row["split"] != "test"]
    metrics = run.metrics(rows)
    del metrics["splits"]["test"]
    shown = Document(report(rows, metrics=metrics)).shown
    assert "Videos of the validation split" in shown


def test_twenty_thousand_videos_stay_workable() -> None:
    rows = run.predictions(1000)
    many = [row | {"video_id": f"v{i}", "split": "test"} for i in range(20) for row in rows]
    page = report(rows, predictions=many)
    assert len(page) < 3_000_000
    assert "2,000 of" in Document(page).shown


def test_all_tasks_have_their_scatter(document: Document) -> None:
    for title in TITLES.values():
        assert f"{title.capitalize()}: prediction against label" in document.shown
