"""Virtual variants are what stored ones are, whatever they share and however little memory."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from actors.artefacts.apply import picture_steps
from actors.artefacts.chain import Chain, Step, chain_text
from actors.artefacts.registry import ARTEFACTS
from actors.artefacts.source import SourceVideo
from actors.artefacts.studio import Studio, write_video
from actors.decode import DecodeConfig, VideoReader
from actors.errors import VideoError
from actors.features import FeaturesConfig
from actors.key_frames import stills, variant_stills
from actors.prepare import ADDS, PreparedVideo, Preparer
from actors.types import Row, Timings
from actors.variants import VariantPreparer
from tests.media import counting_images, read_count
from tests.media import write_video as write_plain
from tests.talking import assert_same, talking_video

CONFIG = FeaturesConfig()
SMALL = FeaturesConfig.model_validate({"prepare": {"source_mib": 1}})  # a few pictures


def local(uri: str) -> BinaryIO:
    return Path(uri).open("rb")


@dataclass
class Counting:
    """Prepares, and counts the pictures that came from a reader."""

    preparer: Preparer
    passes: list[str] = field(default_factory=list)

    def read(self, reader: Any, timings: Timings, beat: Callable[[str], None]) -> PreparedVideo:
        self.passes.append("picture")
        return self.preparer.read(reader, timings, beat)


@pytest.fixture(scope="module")
def preparer() -> Preparer:
    return Preparer(CONFIG)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variants")
    talking_video(folder / "a.mp4", 27)
    talking_video(folder / "donor.mp4", 26, "bruno")
    talking_video(folder / "fast.mp4", 66, fps=60)
    times = [float(t) for t in np.cumsum(np.random.default_rng(3).integers(2, 7, 30)) / 100]
    talking_video(folder / "ragged.mkv", 30, times=[t - times[0] for t in times])
    talking_video(folder / "silent.mp4", 26, audio=None)
    talking_video(folder / "short.mp4", 12)
    return folder


def steps(folder: Path, *cells: tuple[str, float]) -> Chain:
    donor = str(folder / "donor.mp4")
    return tuple(
        Step(name, severity, 9, donor if ARTEFACTS[name].needs_donor else None)
        for name, severity in cells
    )


def virtual(preparer: Any, path: Path, chain: Chain, config: FeaturesConfig = CONFIG) -> list[Row]:
    """Rows of one variant, with nothing shared with any other."""
    variants = VariantPreparer(preparer, config, local)
    try:
        return rows_of(variants, path, chain)
    finally:
        variants.close()


def rows_of(variants: VariantPreparer, path: Path, chain: Chain) -> list[Row]:
    made = variants.open(str(path), str(path), chain_text(chain), Timings(), lambda _: None)
    rows = list(made.rows)
    assert len(rows) == made.clips == len(made.spans)
    return rows


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    """Where stored variants are made: one after another of a source, as a worker does."""
    made = Studio(CONFIG, local)
    yield made
    made.close()


@pytest.fixture(scope="module")
def variants_of_a(preparer: Preparer) -> Iterator[VariantPreparer]:
    made = VariantPreparer(preparer, CONFIG, local)
    yield made
    made.close()


def stored(studio: Studio, preparer: Preparer, path: Path, chain: Chain) -> list[Row]:
    """Rows of the file that jobs/degrade.py writes."""
    file = io.BytesIO()
    write_video(studio.read(str(path), str(path), chain, Timings()), file)
    file.seek(0)
    return list(preparer.open(file, path.name, Timings(), lambda _: None).rows)


def assert_equal(left: list[Row], right: list[Row]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        assert_same(one, other, ADDS)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_virtual_and_stored_are_one(
    variants_of_a: VariantPreparer, studio: Studio, preparer: Preparer, folder: Path, name: str
) -> None:
    chain = steps(folder, (name, 0.6))
    rows = rows_of(variants_of_a, folder / "a.mp4", chain)
    assert len(rows) == 1
    assert_equal(rows, stored(studio, preparer, folder / "a.mp4", chain))


@pytest.mark.parametrize("video", ["fast.mp4", "ragged.mkv", "silent.mp4"])
def test_sources_of_every_rate(
    studio: Studio, preparer: Preparer, folder: Path, video: str
) -> None:
    chain = steps(folder, ("frame_drops", 0.5), ("blur", 0.4))
    if video != "silent.mp4":
        chain += steps(folder, ("offset", 0.6))
    rows = virtual(preparer, folder / video, chain)
    assert_equal(rows, stored(studio, preparer, folder / video, chain))
    clean = virtual(preparer, folder / video, ())
    with (folder / video).open("rb") as file:
        straight = list(preparer.open(file, video, Timings(), lambda _: None).rows)
    assert_equal(clean, straight)
    assert_equal(stored(studio, preparer, folder / video, ()), straight)


def test_what_variants_share_changes_no_bit(preparer: Preparer, folder: Path) -> None:
    """Clean pictures are prepared once, and every variant is what it is alone."""
    path = folder / "a.mp4"
    chains = [
        steps(folder, ("noise", 0.4)),
        steps(folder, ("frozen_mouth", 0.6)),
        (),
        steps(folder, ("foreign_sound", 1.0)),
        steps(folder, ("blur", 0.6), ("noise", 0.4)),
        steps(folder, ("offset", 0.4)),
        steps(folder, ("noise", 0.0)),
    ]
    counting = Counting(preparer)
    variants = VariantPreparer(counting, CONFIG, local)  # type: ignore[arg-type]
    shared = [rows_of(variants, path, chain) for chain in chains]
    assert len(counting.passes) == 1 + sum(bool(picture_steps(chain)) for chain in chains)
    for chain, rows in zip(chains, shared, strict=True):
        assert_equal(rows, virtual(preparer, path, chain))
    # Another source has pictures of its own.
    other = rows_of(variants, folder / "donor.mp4", ())
    assert_equal(other, virtual(preparer, folder / "donor.mp4", ()))
    variants.close()


def test_a_reader_that_stops_early_leaves_nothing_half_done(
    preparer: Preparer, folder: Path
) -> None:
    path = folder / "a.mp4"
    variants = VariantPreparer(preparer, CONFIG, local)
    begun = variants.open(str(path), str(path), "[]", Timings(), lambda _: None)
    next(begun.rows)
    begun.rows.close()  # type: ignore[attr-defined]
    chain = steps(folder, ("noise", 0.4))
    assert_equal(rows_of(variants, path, chain), virtual(preparer, path, chain))
    variants.close()


def test_sources_beyond_the_budget_give_the_same(preparer: Preparer, folder: Path) -> None:
    path = folder / "a.mp4"
    variants = VariantPreparer(preparer, SMALL, local)
    for chain in (
        (),
        steps(folder, ("noise", 0.4)),
        steps(folder, ("flicker", 0.6)),
        steps(folder, ("seam", 0.6), ("offset", 0.4)),
    ):
        assert_equal(rows_of(variants, path, chain), virtual(preparer, path, chain))
    variants.close()


def test_the_budget_is_of_bytes_of_pictures(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "c.mp4", counting_images(30), codec_options={"qp": "10"})
    each = 128 * 32 * 3
    for budget, kept in ((30 * each, True), (30 * each - 1, False)):
        with path.open("rb") as file:
            video = SourceVideo(VideoReader(file, DecodeConfig()), budget)
            assert video.kept == kept
            for _ in range(2):
                assert [read_count(image) for image in video] == list(range(30))
            assert all(frame.image is None for frame in video.frames_without_images()) != kept
            video.close()


def test_a_source_without_sound_keeps_its_other_variants(preparer: Preparer, folder: Path) -> None:
    path = folder / "silent.mp4"
    variants = VariantPreparer(preparer, CONFIG, local)
    for before in (False, True):
        timings = Timings()
        noisy = chain_text(steps(folder, ("noise", 0.4)))
        with pytest.raises(VideoError, match="no sound that noise"):
            variants.open(str(path), str(path), noisy, timings, lambda _: None)
        assert "faces" not in timings.seconds, "nobody looks for faces in vain"
        (row,) = rows_of(variants, path, ())
        assert not row["has_sound"], before
    (row,) = rows_of(variants, path, steps(folder, ("blur", 0.4)))
    assert not row["has_sound"]
    variants.close()


def test_what_fails_does_so_for_every_variant_and_closes_its_files(
    preparer: Preparer, folder: Path
) -> None:
    opened: list[BinaryIO] = []

    def open_file(uri: str) -> BinaryIO:
        opened.append(local(uri))
        return opened[-1]

    variants = VariantPreparer(preparer, CONFIG, open_file)
    for chain in ((), steps(folder, ("blur", 0.4)), steps(folder, ("noise", 0.4))):
        with pytest.raises(VideoError) as error:
            rows_of(variants, folder / "short.mp4", chain)
        assert error.value.reason == "too_short"
    rows_of(variants, folder / "a.mp4", steps(folder, ("foreign_sound", 0.4)))
    variants.close()
    assert len(opened) == 3  # one source, the other one, the donor
    assert all(file.closed for file in opened)


def test_the_policy_whole_is_refused(preparer: Preparer, folder: Path) -> None:
    whole = FeaturesConfig.model_validate({"decode": {"policy": "whole"}})
    with pytest.raises(VideoError, match="Artefacts are applied at decode under"):
        virtual(preparer, folder / "a.mp4", steps(folder, ("blur", 0.4)), whole)


# --- pictures for the report


def test_stills_of_a_variant_are_those_of_its_file(studio: Studio, folder: Path) -> None:
    path, chain = folder / "a.mp4", steps(folder, ("blur", 0.8), ("noise", 0.4))
    file = io.BytesIO()
    write_video(studio.read(str(path), str(path), chain, Timings()), file)
    times = [0.9, 0.0, 0.41, 99.0, 0.41]
    expected = stills(file, times)
    found = variant_stills(str(path), chain_text(chain), times, local)
    assert [still.time_s for still in found] == times
    assert [still.jpeg for still in found] == [still.jpeg for still in expected]
    assert all(still.jpeg and not still.reason for still in found)
    (plain,) = stills(path.open("rb"), [0.41])
    assert plain.jpeg != found[2].jpeg


def test_a_picture_that_cannot_be_made_has_a_reason(folder: Path) -> None:
    for video, chain, says in (
        ("donor.mp4", '[{"type": "gone", "severity": 1}]', "unknown artefact 'gone'"),
        ("donor.mp4", "[", "not JSON"),
    ):
        (still,) = variant_stills(str(folder / video), chain, [0.1], local)
        assert still.jpeg == b""
        assert says in still.reason
