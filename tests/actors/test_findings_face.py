import numpy as np
import pytest

from actors.findings import find
from tests.actors.finding_rows import column, row


def only(made, kind):
    found = find(made)
    assert [f.kind for f in found] == [kind], found
    return found[0]


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


def test_black_frames_are_not_said_to_lack_a_face_too():
    made = row()
    made["face_mask"][:] = False
    made["frame_mask"][:140] = False
    made["landmarks"][:] = 0
    for name in ("lip_opening", "lip_width", "face_sharpness"):
        column(made, name)[:] = 0
    found = {f.kind: f for f in find(made)}
    assert set(found) == {"no_face", "no_picture"}
    assert (found["no_picture"].start_s, found["no_picture"].end_s) == pytest.approx((0.0, 5.6))
    assert (found["no_face"].start_s, found["no_face"].end_s) == pytest.approx((5.6, 6.0))
    assert "0.40 s" in found["no_face"].text


# --- blur


def test_a_face_blurred_throughout():
    made = row()
    column(made, "face_sharpness")[:] *= 0.1
    found = only(made, "blur")
    assert (found.start_s, found.end_s) == (0.0, 6.0)
    assert found.text == "face blurred throughout (sharpness 6, clear faces have 13 and more)"
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
    found = only(made, "blur")
    assert found.value == pytest.approx(15, abs=1)
    assert found.text == "face and picture blurred throughout (sharpness 15 and 8)"


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
