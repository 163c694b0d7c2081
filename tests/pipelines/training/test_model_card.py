import json
import math
import re

import pytest

from model.tasks import TASKS
from pipelines.training.model_card import DEMONSTRATION, card_markdown, model_card
from tests.pipelines import report_run as run

ROWS = run.predictions(120)
HEADINGS = (
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
    "Training", "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    "Provenance",
)  # fmt: skip


def card(**changes: object) -> dict[str, object]:
    return model_card(run.facts(ROWS, **changes))


def test_the_card_says_everything_that_the_run_knows() -> None:
    found = card()
    assert found == json.loads(json.dumps(found, allow_nan=False))
    details = found["model_details"]
    assert (details["preset"], details["parameters"]) == ("optimized", 21_345_669)
    assert details["streams"]["visual"] == {"raw_width": 2048, "width": 100}
    assert list(details["outputs"]) == list(TASKS)
    data = found["training_data"]
    assert data["train"]["videos"] == sum(row["split"] == "train" for row in ROWS)
    assert data["train"]["labels"]["cross_modal"] == 0
    assert data["preprocessor"]["explained_variance"]["audio"] == 0.971
    assert data["preprocessor"]["explained_variance"]["action_units"] is None
    assert set(found["evaluation_data"]["splits"]) == {"val", "test"}
    assert found["evaluation_data"]["split_rule"]["by"] == "speaker"
    assert found["training"]["chosen_epoch"] == 27
    assert len(found["training"]["incidents"]) == 2
    test = found["quantitative_analyses"]["splits"]["test"]
    assert test == run.metrics(ROWS)["splits"]["test"]
    provenance = found["provenance"]
    assert provenance["backbones"]["audio"] == "seeded:8877665544332211"
    assert provenance["files"]["evaluator.safetensors"] == "1234abcd"
    assert provenance["settings"]["training"] == {"epochs": 40}


def test_credentials_stay_out_of_both_forms() -> None:
    found = card(split_rule={"by": "column", "file": "s3://KEY:SECRET@bucket/splits.csv"})
    assert found["training_data"]["features"] == "s3://bucket/features"
    for text in (json.dumps(found), card_markdown(found)):
        assert "SECRET" not in text
        assert "KEY" not in text


@pytest.mark.parametrize("flag", [True, False])
def test_a_demonstration_is_named_first_and_only_then(flag: bool) -> None:
    found = card(demonstration=flag)
    assert found["demonstration"]["flag"] is flag
    text = card_markdown(found)
    assert (DEMONSTRATION in json.dumps(found)) is flag
    assert (DEMONSTRATION in "\n".join(text.splitlines()[:4])) is flag


def test_the_markdown_has_the_headings_in_order_and_undefined_figures_their_reason() -> None:
    text = card_markdown(card())
    assert tuple(re.findall(r"^## (.*)$", text, re.MULTILINE)) == HEADINGS
    rows = [line for line in text.splitlines() if line.startswith("| plcc |")]
    assert len(rows) == 3
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == "undefined: labels are constant"
        assert cells[4] == "undefined: no valid label"
        assert re.fullmatch(r"0\.\d{3} \\\[0\.\d{3}, \d\.\d{3}\\\]", cells[5])


def test_every_table_row_has_as_many_cells_as_its_head() -> None:
    changed = run.metrics(ROWS)
    changed["groups"]["generator"]["a|b\n| c |"] = changed["groups"]["generator"].pop("genA")
    lines = card_markdown(card(metrics=changed)).splitlines()
    counts = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|"):
            counts.append(len(re.findall(r"(?<!\\)\|", line)))
            if not following.startswith("|"):
                assert len(set(counts)) == 1, line
                counts = []


def test_external_text_cannot_become_markup() -> None:
    nasty = "<img src=x onerror=alert(1)>\n# head [link](http://x) `code`"
    text = card_markdown(card(preset=nasty, backbones={nasty: nasty}, settings={nasty: nasty}))
    outside = [line for line in text.splitlines() if not line.startswith("    ")]
    assert not any("<img" in line for line in outside)
    assert not any(line.startswith("# head") for line in text.splitlines())
    assert not any("[link](" in line.replace("\\[", "") for line in outside)


def test_an_incident_without_a_number_is_still_json() -> None:
    incident = {"step": 3, "kind": "not_finite", "value": math.nan, "clips": [["a", 0]]}
    found = card(incidents=[incident])
    assert found["training"]["incidents"][0]["value"] == "nan"
    assert "1 not\\_finite" in card_markdown(found)


def test_a_figure_that_is_nan_without_a_reason_is_refused() -> None:
    changed = run.metrics(ROWS)
    changed["splits"]["test"]["overall"]["metrics"]["plcc"]["value"] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        card(metrics=changed)


def test_a_run_that_knows_little_has_a_card_too() -> None:
    found = card(
        chosen_epoch=None, incidents=[], metrics={}, splits={}, backbones={}, files={},
        streams={},
    )  # fmt: skip
    text = card_markdown(found)
    assert "No sequence is read" in text
    assert "No epoch could be chosen" in text
    assert "No incidents" in text
    assert "No groups were named" in text
