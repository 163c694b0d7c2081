"""The contact sheet: which source, which films, and the page that plays them."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from actors.artefacts.chain import Step
from actors.artefacts.registry import ARTEFACTS
from actors.decode import DecodeConfig
from actors.types import VideoRef
from jobs.degrade import main
from model.tasks import TASKS
from pipelines.degrade import degrade
from pipelines.degrading import contact_sheet as module
from pipelines.degrading.contact_facts import Film, SheetFacts, SheetRow
from pipelines.degrading.contact_process import Bench, Look, Made, Request, Workshop
from pipelines.degrading.contact_sheet import NO_DONOR, SHEET, write_contact_sheet
from pipelines.degrading.plan import DegradeInputError
from pipelines.report.contact_sheet import contact_sheet, measure_text
from pipelines.storage import Store
from tests.media import noise_images, write_video
from tests.pipelines.degrading.contact_work import troubled
from tests.pipelines.degrading.sources import ALL_TEST, ALL_TRAIN, dealt, settings, sources
from tests.pipelines.test_training_report import NASTY, Document
from tests.talking import talking_video

JPEG = cv2.imencode(".jpg", np.full((24, 32, 3), 90, np.uint8))[1].tobytes()
CLEAN = Film(0.0, b"clean film", JPEG, JPEG)
FIT = Look(3.0, (512, 512), True, True, CLEAN)
GRID = (0.2, 0.4, 0.6, 0.8, 1.0)


class Page(Document):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag == "img":
            self.open.pop()

    def films(self) -> list[bytes]:
        sources = [video["src"] for video in self.all("video") if "src" in video]
        assert all(s is not None and s.startswith("data:video/mp4;base64,") for s in sources)
        return [base64.b64decode(str(s).partition(",")[2]) for s in sources]


def row(kind: str, **values: Any) -> SheetRow:
    films = tuple(Film(s, f"{kind} {s}".encode(), JPEG, JPEG) for s in GRID)
    found: dict[str, Any] = {
        "clean_still": JPEG,
        "clean_detail": b"",
        "held_out": False,
        "blind": None,
    }
    return SheetRow(**{"type": kind, "films": films, **found, **values})


def facts(*rows: SheetRow, **values: Any) -> SheetFacts:
    found = SheetFacts("ada/1", "ada", "train", (512, 512), 3.0, CLEAN, rows, 7)
    return replace(found, **values)


# --- the page


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(contact_sheet(facts(*map(row, ARTEFACTS))))


def test_every_artefact_is_there_at_every_severity_and_the_clean_film_once(page: Page) -> None:
    films = page.films()
    assert films.count(b"clean film") == 1
    assert sorted(films[1:]) == sorted(f"{k} {s}".encode() for k in ARTEFACTS for s in GRID)
    assert len(page.all("video")) == len(ARTEFACTS) * (1 + len(GRID))
    assert sum("data-clean" in video for video in page.all("video")) == 1
    for artefact in ARTEFACTS.values():
        assert artefact.title[1:] in page.shown
    hearing = sum(a.group in ("sound", "sync") for a in ARTEFACTS.values())
    assert len(page.all("img")) == hearing * (1 + len(GRID))


def test_nothing_comes_from_outside_and_nothing_loads_before_it_is_asked_for(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "poster", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, name)
    for video in page.all("video"):
        assert (video["preload"], video["width"], video["height"]) == ("none", "240", "240")
    policy = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert len(policy) == 1
    assert policy[0] is not None
    assert "default-src 'none'" in policy[0]
    assert "media-src data:" in policy[0]


def test_severities_stand_in_physical_units_with_the_points_they_cost() -> None:
    page = Page(contact_sheet(facts(row("noise"), row("offset"), row("flattened"))))
    assert "0.6 SNR 14 dB audio \u22122.0" in page.shown
    assert "offset 12 frames lip sync \u22123.3 cross-modal \u22122.5" in page.shown
    assert "expression \u00d7 0.4 mouth motion \u00d7 0.58" in page.shown


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("snr_db", 12.0, "SNR 12 dB"),
        ("drr_db", -10.04, "DRR \u221210 dB"),
        ("lost_share", 0.0664, "lost 6.64 %"),
        ("cutoff_hz", 4923.7, "cutoff 4,920 Hz"),
        ("rt60_s", 0.4234, "RT60 0.423 s"),
        ("bitrate_kbit_s", 4.0, "bitrate 4 kbit/s"),
        ("end_offset_frames", 2.4, "end offset 2.4 frames"),
        ("mouth_motion_factor", 0.3, "mouth motion \u00d7 0.3"),
        ("factor", 12.0, "factor 12"),
        ("sigma_percent", 1.6, "sigma 1.6 %"),
        ("displacement_eye_distances", 0.05, "displacement 0.05 eye distances"),
    ],
)
def test_measures_are_written_with_their_units(name: str, value: float, text: str) -> None:
    assert measure_text(name, value) == text


def test_text_from_outside_stays_text() -> None:
    films = tuple(Film(s, reason=f"{NASTY} {s}") for s in GRID)
    rows = [row("noise", blind=NASTY, held_out=True), row("blur", films=films, clean_still=b"")]
    text = contact_sheet(facts(*rows, source=NASTY, speaker=NASTY, code_version=NASTY))
    assert "<script>alert" not in text
    assert "\u202e" not in text
    page = Page(text)
    assert len(page.all("script")) == 1
    assert page.shown.count("<script>alert('x')</script>") == 5 + len(GRID)


def test_what_is_held_out_blind_or_impossible_is_said() -> None:
    nothing = tuple(Film(s, reason="There is no face.") for s in GRID)
    one = row("flicker")
    part = (Film(0.2, reason="Too little."), *one.films[1:])
    page = Page(
        contact_sheet(
            facts(
                row("noise", held_out=True),
                row("seam", films=nothing, clean_still=b"", blind="thinner than a pixel"),
                replace(one, films=part),
                lacks=("a face", "2 seconds"),
            )
        )
    )
    assert page.shown.count("held out from training") == 1
    assert "thinner than a pixel" in page.shown
    assert page.shown.count("There is no face.") == 1  # once for the row
    assert page.shown.count("Too little.") == 1
    assert "This one lacks a face and 2 seconds." in page.shown
    assert len(page.all("video")) == 6 + 5
    assert len(page.all("button")) == 2


def test_pictures_that_are_shown_smaller_have_a_detail_each() -> None:
    films = tuple(replace(film, detail=JPEG) for film in row("blur").films)
    one = row("blur", films=films, clean_detail=JPEG)
    others = [row(kind, films=films, clean_detail=JPEG) for kind in ("noise", "seam")]
    page = Page(contact_sheet(facts(one, *others)))
    kinds = [str(image["alt"]).split(" of ")[0] for image in page.all("img")]
    assert kinds.count("Detail") == kinds.count("Spectrogram") == 1 + len(GRID)


# --- which source, and what of it


class Shop:
    """Stands for the child process; answers by the address of the source."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.asked = answers, list[Request]()

    def __call__(self, *_: object) -> "Shop":
        return self

    def __enter__(self) -> "Shop":
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, request: Request, _: float) -> Any:
        self.asked.append(request)
        answer = self.answers.get(request.uri, FIT)
        if not request.steps:
            return answer
        if request.steps[0].type == "clipping":
            return "the process that made it crashed"
        return Made(tuple(Film(s.severity, b"film", JPEG, JPEG) for s in request.steps), JPEG, b"")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def run(
        refs: list[VideoRef], answers: dict[str, Any], source: str | None = None, **values: Any
    ) -> tuple[Shop, Page | None, list[str]]:
        shop, said = Shop(answers), list[str]()
        monkeypatch.setattr(module, "Workshop", shop)
        plans = dealt(refs, **values).values()
        store = Store.at(tmp_path)
        found = write_contact_sheet(store, settings(**values), plans, said.append, source=source)
        assert (found is not None) == store.exists(SHEET)
        page = Page(store.read_bytes(SHEET).decode()) if found else None
        return shop, page, said

    return run


def test_the_first_source_with_sound_face_and_two_seconds_is_shown(
    write: Callable[..., Any],
) -> None:
    answers = {
        "/corpus/v0000.mp4": "it cannot be opened",
        "/corpus/v0001.mp4": replace(FIT, sound=False),
        "/corpus/v0002.mp4": replace(FIT, face=False),
        "/corpus/v0003.mp4": replace(FIT, seconds=1.9),
    }
    shop, page, said = write(sources(8), answers, **ALL_TRAIN)
    assert {r.uri for r in shop.asked if r.steps} == {"/corpus/v0004.mp4"}
    assert [r.steps[0].type for r in shop.asked if r.steps] == list(ARTEFACTS)
    assert "v0004" in page.shown
    assert "lacks" not in page.shown
    assert "the process that made it crashed" in page.shown
    assert f"{5 * (len(ARTEFACTS) - 1)} films of {len(ARTEFACTS)} artefacts" in said[0]


def test_where_none_fits_the_one_that_lacks_least_is(write: Callable[..., Any]) -> None:
    answers = {
        "/corpus/v0000.mp4": replace(FIT, sound=False, face=False),
        "/corpus/v0001.mp4": replace(FIT, sound=False),
    }
    shop, page, _ = write(sources(2), answers, **ALL_TRAIN)
    assert {r.uri for r in shop.asked if r.steps} == {"/corpus/v0001.mp4"}
    assert "This one lacks sound." in page.shown


def test_what_no_artefact_of_the_plan_needs_is_not_asked_for(write: Callable[..., Any]) -> None:
    answers = {"/corpus/v0000.mp4": replace(FIT, sound=False, face=None)}
    shop, page, _ = write(sources(2), answers, artefacts={"blur": None}, **ALL_TRAIN)
    assert shop.asked[0].face is None
    assert {r.uri for r in shop.asked} == {"/corpus/v0000.mp4"}
    assert "lacks" not in page.shown


def test_a_source_may_be_named_and_must_be_there(write: Callable[..., Any]) -> None:
    shop, _, _ = write(sources(30), {}, "v0027", **ALL_TRAIN)
    assert {r.uri for r in shop.asked} == {"/corpus/v0027.mp4"}
    with pytest.raises(DegradeInputError, match="--contact-source: the corpus has no video v99"):
        write(sources(3), {}, "v99", **ALL_TRAIN)


def test_no_source_at_all_is_told_and_writes_nothing(write: Callable[..., Any]) -> None:
    _, page, said = write(sources(1), {"/corpus/v0000.mp4": f"broken {NASTY}"}, **ALL_TRAIN)
    assert page is None
    assert "v0000" in said[0]
    assert "broken" in said[0]
    assert "\u202e" not in said[0]
    assert "none was written" in said[1]


def test_films_are_the_variants_of_the_plan_and_at_most_five(write: Callable[..., Any]) -> None:
    many = tuple(round(0.1 * i, 1) for i in range(1, 11))
    values = {"artefacts": {"noise": None, "blur": {"severities": (0.5,)}}, "severities": many}
    shop, _, _ = write(sources(2), {}, **values, **ALL_TEST)
    noise, blur = (r.steps for r in shop.asked if r.steps)
    assert [s.severity for s in noise] == [0.1, 0.3, 0.5, 0.8, 1.0]
    assert [s.severity for s in blur] == [0.5]
    plan = dealt(sources(2), **values, **ALL_TEST)["v0000"]
    assert {*noise, *blur} <= {step for v in plan.variants for step in v.chain}


def test_types_that_were_not_dealt_are_shown_and_those_without_donor_say_so(
    write: Callable[..., Any],
) -> None:
    values = {
        "artefacts": {"noise": {"held_out": True}, "foreign_sound": None},
        "per_source": {"train": 0},
    }
    shop, page, _ = write(sources(1), {}, **values, **ALL_TRAIN)
    assert [r.steps[0].type for r in shop.asked if r.steps] == ["noise"]
    assert "held out from training" in page.shown
    assert NO_DONOR in page.shown


# --- the films themselves


def bench() -> Bench:
    return Bench(DecodeConfig(), 0.6)


def test_a_talking_face_gives_films_of_sound_and_picture(tmp_path: Path) -> None:
    path = str(talking_video(tmp_path / "ada.mp4", 40))
    worker = bench()
    look = worker.do(Request(path, face=Step("seam", 1.0)))
    assert isinstance(look, Look)
    assert (look.sound, look.face, look.seconds) == (True, True, 0.6)
    clean, heard = decoded(look.film.mp4)
    noise = worker.do(Request(path, (Step("noise", 0.5, 3), Step("noise", 1.0, 3))))
    drops = worker.do(Request(path, (Step("frozen_picture", 1.0, 3),)))
    assert isinstance(noise, Made)
    assert isinstance(drops, Made)
    assert [film.severity for film in noise.films] == [0.5, 1.0]
    added = [float(((decoded(film.mp4)[1] - heard) ** 2).mean()) for film in noise.films]
    said = float((heard**2).mean())
    assert added[1] > 5 * added[0]  # 17.5 dB lie between them, and AAC adds its own
    assert added[1] > 0.5 * said > 5 * added[0]
    for film in noise.films:
        assert np.array_equal(decoded(film.mp4)[0], clean)
        assert film.still == noise.clean_still
    assert drops.films[0].still != drops.clean_still
    assert noise.films[0].detail == noise.clean_detail
    shape = cv2.imdecode(np.frombuffer(drops.films[0].detail, np.uint8), cv2.IMREAD_COLOR)
    assert shape is not None
    assert shape.shape == (120, 240, 3)
    frozen = decoded(drops.films[0].mp4)[0]
    assert frozen.shape == clean.shape == (15, 240, 240, 3)
    assert worker.do(Request(path, (Step("noise", 0.5, 3), Step("noise", 1.0, 3)))) == noise


def decoded(mp4: bytes) -> tuple[np.ndarray, np.ndarray]:
    with av.open(io.BytesIO(mp4)) as container:
        shown = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(io.BytesIO(mp4)) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    return shown, heard


def test_a_source_without_sound_and_face_gives_reasons(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "grey.mp4", noise_images(26, (160, 120))))
    worker = bench()
    look = worker.do(Request(path, face=Step("seam", 1.0)))
    assert isinstance(look, Look)
    assert (look.sound, look.face, look.film.spectrum) == (False, False, b"")
    for kind, says in (("noise", "no sound"), ("seam", "face")):
        made = worker.do(Request(path, (Step(kind, 0.5), Step(kind, 1.0))))
        assert isinstance(made, Made)
        assert [film.mp4 for film in made.films] == [b"", b""]
        assert all(says in film.reason for film in made.films)


def test_a_file_that_is_none_gives_a_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video " * 99)
    worker = bench()
    for name in ("bad.mp4", "gone.mp4"):
        found = worker.do(Request(str(tmp_path / name)))
        assert isinstance(found, str)
        assert len(found) > 10


def test_a_process_that_dies_or_hangs_is_replaced() -> None:
    with Workshop(DecodeConfig(), 1.0, troubled) as workshop:
        first = workshop.ask(Request("fine"), 60)
        assert workshop.ask(Request("more"), 60) == ["more", first[1]]
        assert "crashed (exit status 7)" in workshop.ask(Request("crash"), 60)
        second = workshop.ask(Request("fine"), 60)
        assert second[1] != first[1]
        assert "did not end" in workshop.ask(Request("hang"), 0.2)


def test_the_chain_writes_a_sheet_that_plays(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    talking_video(tmp_path / "clean" / "ada.mp4", 26)
    config = settings(
        corpus={"corpus": str(tmp_path / "clean")},
        artefacts={"noise": None, "blur": {"severities": (1.0,)}, "foreign_sound": None},
        severities=(0.4, 1.0),
        **ALL_TRAIN,
    )
    out = tmp_path / "out"
    degrade(config, str(out), virtual=True, contact_sheet=True)
    page = Page((out / SHEET).read_text())
    films = page.films()
    assert len(films) == 1 + 2 + 1
    for film in films:
        pictures, heard = decoded(film)
        assert len(pictures) == 26
        assert len(heard) / 48_000 == pytest.approx(26 / 25, abs=0.03)
    assert NO_DONOR in page.shown
    assert "This one lacks 2 seconds." in page.shown


def test_the_door_refuses_a_source_that_is_not_there_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "ada.mp4").write_bytes(b"is not opened")
    job = ["--corpus", str(tmp_path / "clean"), "--out", str(tmp_path / "out"), "--virtual"]
    job += ["--set", "splits.shares=[1,0,0]", "--contact-source", "eve"]
    assert main(job) == 2
    assert "the corpus has no video eve" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_harms_have_short_names() -> None:
    text = Page(contact_sheet(facts(*map(row, ARTEFACTS)))).shown
    assert not any(task in text for task in TASKS if "_" in task)
