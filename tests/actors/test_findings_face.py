import numpy as np
import pytest

from actors.findings import find
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


# --- no face


def test_no_face_at_all_and_for_a_while():
    made = row()
    made["face_mask"][:] = False
    made["landmarks"][:] = 0
    for name in ("lip_opening", "lip_width", "face_sharpness"):
        column(made, name)[:] = 0
    assert only(made, "no_face").value == pytest.approx(6.0)

    made = row()
    made["face_mask"][100:115] = False
    made["landmarks"][100:115] = 0
    for name in ("lip_opening", "lip_width", "face_sharpness"):
        column(made, name)[100:115] = 0
    found = only(made, "no_face")
    assert (found.start_s, found.end_s) == pytest.approx((4.0, 4.6))


# --- blur


def test_a_face_blurred_throughout():
    made = row()
    column(made, "face_sharpness")[:] *= 0.1
    found = only(made, "blur")
    assert (found.start_s, found.end_s) == (0.0, 6.0)
    assert "throughout" in found.text
    assert found.value == pytest.approx(6, abs=1)
    made["lowlevel"] = None
    made["descriptors"]["face_sharpness"] = 6.0
    assert only(made, "blur").value == 6.0, "by the descriptor alone"


@pytest.mark.parametrize("span", [(0, 30), (50, 90), (120, 150)])
def test_a_blurred_stretch_is_placed(span):
    made = row()
    column(made, "face_sharpness")[slice(*span)] *= 0.08
    found = only(made, "blur")
    assert (found.start_s, found.end_s) == pytest.approx((span[0] / 25, span[1] / 25), abs=0.05)
    assert "92 %" in found.text or "93 %" in found.text or "91 %" in found.text


def test_motion_blurs_a_face_less():
    made = row()
    column(made, "face_sharpness")[50:70] *= 0.4
    assert find(made) == []


def test_in_a_soft_picture_a_face_must_be_sharper():
    made = row()
    column(made, "face_sharpness")[:] *= 0.25
    assert find(made) == []
    made["descriptors"]["sharpness"] = 8.0
    assert only(made, "blur").value == pytest.approx(15, abs=1)


def test_of_a_blurred_mouth_nothing_is_claimed():
    made = row(seed=1)
    speak(made, 40, 90)
    hold_mouth(made, 45, 85)
    column(made, "face_sharpness")[45:85] *= 0.08
    only(made, "blur")


# --- trembling


def test_a_trembling_head_and_a_nodding_one():
    made = row()
    jitter = np.random.default_rng(0).normal(0, 0.012 * 0.12, (150, 1))  # 0.012 iod
    made["landmarks"].reshape(150, 468, 3)[:, :, 0] += jitter
    found = only(made, "face_jerky")
    assert (found.start_s, found.end_s) == (0.0, 6.0)

    made = row()
    sway = 0.08 * 0.12 * np.sin(2 * np.pi * 1.2 * np.arange(150) / 25)  # 0.08 iod at 1.2 Hz
    made["landmarks"].reshape(150, 468, 3)[:, :, 0] += sway[:, None]
    assert find(made) == []


def test_a_trembling_head_explains_its_flicker():
    made = row()
    made["landmarks"].reshape(150, 468, 3)[:, :, 0] += np.random.default_rng(0).normal(
        0, 0.0015, (150, 1)
    )
    made["descriptors"]["flicker_luma"] = 0.9
    only(made, "face_jerky")
