"""A mouth that stands still: where it is told, and where it is not."""

import numpy as np
import pytest

from actors.findings import find, join
from actors.findings_clip import read_clip
from actors.findings_mouth import LIPS, lip_shapes
from tests.actors.finding_rows import column, row


def only(made, kind):
    found = find(made)
    assert [f.kind for f in found] == [kind], found
    return found[0]


def hold_mouth(made, first, last, noise=0.001):
    rng = np.random.default_rng(first)
    for name in ("lip_opening", "lip_width"):
        track = column(made, name)
        track[first:last] = track[first] + rng.normal(0, noise, last - first)


def speak(made, first, last):
    column(made, "energy")[first:last] = -25


# --- mouth


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("first", [10, 60, 115])
def test_a_mouth_that_stands_still_for_a_second_of_speech_is_found_there(seed, first):
    made = row(seed=seed, start_s=6.0)
    speak(made, first - 5, first + 30)
    hold_mouth(made, first, first + 25)
    found = only(made, "mouth_frozen")
    start = 6 + first / 25
    assert found.start_s == pytest.approx(start, abs=0.3)
    assert found.end_s == pytest.approx(start + 1, abs=0.3)
    assert "while the speech goes on" in found.text


def test_single_wrong_landmarks_do_not_hide_it():
    made = row(seed=2)
    speak(made, 40, 90)
    hold_mouth(made, 50, 80)
    column(made, "lip_opening")[[55, 63, 72]] += 0.1
    assert only(made, "mouth_frozen").start_s == pytest.approx(2.0, abs=0.2)


def test_a_mouth_may_stand_still_in_a_pause():
    made = row(seed=1)
    column(made, "energy")[40:90] = -60
    hold_mouth(made, 45, 85)
    assert find(made) == []


def test_without_the_low_level_stream_the_mouth_is_not_judged():
    made = row()
    hold_mouth(made, 40, 100)
    made["lowlevel"] = None
    assert find(made) == []


def test_of_a_blurred_mouth_nothing_is_claimed():
    made = row(seed=1)
    speak(made, 40, 90)
    hold_mouth(made, 45, 85)
    column(made, "face_sharpness")[45:85] *= 0.08
    only(made, "blur")


# --- by the lips' shape


def with_lips(made, tremble=0.0, seed=0):
    """Draw lips into the mesh: an ellipse as wide and open as the stream says, on a moving head."""
    n = int(made["frame_mask"].sum())
    mesh = made["landmarks"].reshape(150, 468, 3)
    opening, width = (column(made, name)[:n, None] for name in ("lip_opening", "lip_width"))
    rng = np.random.default_rng([seed, 7])
    for points, thickness in ((LIPS[:20], 0.16), (LIPS[20:], 0.0)):
        angle = 2 * np.pi * np.arange(len(points)) / len(points)
        lips = np.stack(
            [width / 2 * np.cos(angle), (opening + thickness) / 2 * np.sin(angle)], axis=-1
        )
        lips += tremble * rng.normal(0, 1, lips.shape)
        roll = 0.2 * np.sin(np.arange(n) / 25)
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        place = mesh[:n, 1, :2] + [0.0, 0.1]
        mesh[:n, list(points), :2] = place[:, None] + 0.12 * np.einsum("ijn,npj->npi", turn, lips)
    return made


def test_the_shape_of_lips_leaves_the_heads_motion_out():
    made = row(frames=100)
    column(made, "lip_opening")[:100] = 0.1
    column(made, "lip_width")[:100] = 0.6
    made["face_mask"][40:45] = False
    shapes = lip_shapes(read_clip(with_lips(made)))
    assert shapes.shape == (100, 2 * len(LIPS))
    assert np.isnan(shapes[40:45]).all()
    seen = np.delete(shapes, range(40, 45), axis=0)
    np.testing.assert_allclose(seen, np.broadcast_to(seen[0], seen.shape), atol=1e-4)
    assert np.mean(seen**2) * 2 == pytest.approx(1.0, abs=1e-3), "unit size"
    column(made, "lip_opening")[50:100] = 0.3
    shapes = lip_shapes(read_clip(with_lips(made)))
    assert np.abs(shapes[60] - shapes[30]).max() > 0.1


def test_landmarks_without_lips_have_no_shape():
    made = row()
    assert lip_shapes(read_clip(made)) is None, "all points in one place"
    made["landmarks"] = None
    assert lip_shapes(read_clip(made)) is None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("frames", [50, 75, 150])
def test_nothing_is_claimed_of_lips_that_talk(seed, frames):
    assert find(with_lips(row(seed=seed, frames=frames), 0.004, seed)) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_still_mouth_on_which_landmarks_tremble_is_found_by_its_shape(seed):
    made = row(seed=seed)
    speak(made, 50, 90)
    hold_mouth(made, 58, 83, 0.0)
    # More than the motion alone allows: slow, as landmarks drift on a head that turns.
    column(made, "lip_opening")[58:83] += 0.017 * np.sin(np.linspace(0, np.pi * 2, 25))
    assert find(made) == []
    found = only(with_lips(made, 0.002, seed), "mouth_frozen")
    assert (found.start_s, found.end_s) == pytest.approx((2.32, 3.32), abs=0.25)


# --- across the border of two clips


def across(before, after, seed=4):
    """Two clips; the mouth is still in the last ``before`` and the first ``after`` frames."""
    first, second = row(seed=seed), row(seed=seed + 50, start_s=6.0)
    speak(first, 110, 150)
    speak(second, 0, 40)
    for made in (first, second):  # lips that are nowhere still by chance
        column(made, "lip_opening")[:150] += 0.06 * np.sin(2 * np.pi * 4.3 * np.arange(150) / 25)
    if before:
        hold_mouth(first, 150 - before, 150)
    if after:
        hold_mouth(second, 0, after)
    return [find(with_lips(made, 0.002)) for made in (first, second)]


@pytest.mark.parametrize("before", [11, 12, 14])
def test_two_short_pieces_at_a_border_are_one_still_mouth(before):
    clips = across(before, 25 - before)
    for found in clips:
        assert [(f.kind, f.severity) for f in found] == [("mouth_frozen", 0.1)], "weak alone"
        assert "of the clip" in found[0].text
        assert found[0].end_s - found[0].start_s >= 0.4 - 1e-6
    (found,) = join(clips)
    assert (found.start_s, found.end_s) == pytest.approx(
        (6 - before / 25, 7 - before / 25), abs=0.1
    )
    assert found.value == pytest.approx(found.end_s - found.start_s)
    assert "while the speech goes on" in found.text
    assert found.severity > 0.2
    assert join([[found]]) == [found]


@pytest.mark.parametrize(("before", "after"), [(12, 0), (0, 12)])
def test_a_short_piece_at_a_border_counts_for_nothing_alone(before, after):
    clips = across(before, after)
    assert [f.severity for found in clips for f in found] == [0.1]
    assert join(clips) == []


@pytest.mark.parametrize(("before", "after"), [(18, 7), (7, 18)])
def test_a_long_piece_at_a_border_counts_without_its_short_rest(before, after):
    (found,) = join(across(before, after))
    assert found.kind == "mouth_frozen"
    assert 0.6 <= found.end_s - found.start_s <= 1.0
    assert found.start_s <= 6.0 <= found.end_s


def test_pieces_of_a_few_frames_are_not_told():
    assert across(7, 7) == [[], []]
