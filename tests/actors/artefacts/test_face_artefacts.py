"""Every artefact of the face against a measure of its own: mostly Face Mesh, run again."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from actors.artefacts.apply import damaged_pictures
from actors.artefacts.artefact import FacePoints
from actors.artefacts.chain import Step
from actors.errors import VideoError
from tests.actors.artefacts.face_inputs import (
    BROWS,
    BY_TYPE,
    CORNERS,
    COUNT,
    FEW,
    LIPS,
    SEVERITIES,
    clean,
    damaged,
    damaged_mesh,
    damaged_part,
    deviation,
    distance,
    mesh,
    scene,
    tremble,
)
from tests.support import clips_dir

TYPES = sorted(BY_TYPE)
OVAL = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
]  # fmt: skip


def rising(values: list[float], by: float = 0.0) -> bool:
    return bool((np.diff(values) > by).all())


def change(kind: str, severity: float, seed: int) -> float:
    """Mean absolute difference from the clean pictures."""
    pairs = zip(*damaged_part(kind, severity, seed), strict=True)
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs]))


# --- what every one must have


@pytest.mark.parametrize("kind", TYPES)
def test_severity_zero_gives_the_very_pictures(kind):
    pictures, face = clean()
    seen = scene(face, pictures[0].shape[:2])
    made = list(damaged_pictures(pictures, (Step(kind, 0.0),), seen, face))
    assert len(made) == COUNT
    assert all(a is b for a, b in zip(made, pictures, strict=True))


@pytest.mark.parametrize("kind", TYPES)
def test_only_the_face_is_touched(kind):
    pictures, face = clean()
    made = damaged(kind, 1.0)
    assert len(made) == COUNT
    for before, after, points in zip(pictures, made, face.points, strict=True):
        assert after.shape == before.shape
        assert after.dtype == np.uint8
        near = np.zeros(before.shape[:2], np.uint8)
        hull = cv2.convexHull(points.astype(np.float32)).round().astype(np.int32)
        cv2.fillConvexPoly(near, hull, 1)
        eyes = float(np.linalg.norm(points[33] - points[263]))
        reach = 2 * round(0.6 * eyes) + 1
        near = cv2.dilate(near, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
        far = near == 0
        assert far.mean() > 0.3  # the test looks at something
        np.testing.assert_array_equal(after[far], before[far])


@pytest.mark.parametrize("kind", [k for k in TYPES if k != "frozen_mouth"])
@pytest.mark.parametrize("seed", [1, 2])
def test_more_severity_changes_more(kind, seed):
    if kind in {"damped_mouth", "exaggerated", "flattened"} and seed > 1:
        assert change(kind, 0.6, seed) == change(kind, 0.6, 1)  # nothing of it is random
        return
    assert rising([0.0, *(change(kind, s, seed) for s in SEVERITIES)])


@pytest.mark.parametrize("kind", ["mouth_jitter", "face_wobble", "seam"])
def test_a_seed_decides_what_is_random(kind):
    first, other = (damaged_part(kind, 0.6, seed)[1] for seed in (1, 2))
    again = damaged_part.__wrapped__(kind, 0.6, 1)[1]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", TYPES)
def test_measures_are_monotone_and_in_range(kind):
    artefact = BY_TYPE[kind]
    rows = [artefact.measures(s) for s in (0.0, *SEVERITIES)]
    for name in rows[0]:
        steps = np.diff([row[name] for row in rows])
        assert (steps > 0).all() or (steps < 0).all(), name
    assert all(0 < points <= 3.5 for points in artefact.harms.values())
    assert "overall" not in artefact.harms


@pytest.mark.parametrize("kind", TYPES)
def test_a_lost_face_is_left_alone_and_a_short_gap_is_bridged(kind):
    pictures, face = clean()
    found = np.ones(COUNT, np.bool_)
    found[6:8] = False  # 0.12 s between its neighbours
    found[16:28] = False
    points = face.points.copy()
    points[~found] = np.nan
    seen = scene(FacePoints(points, found), pictures[0].shape[:2])
    made = list(BY_TYPE[kind].apply(pictures, 1.0, seen))
    for i in range(16, 28):
        np.testing.assert_array_equal(made[i], pictures[i])
    differs = [i for i, (a, b) in enumerate(zip(made, pictures, strict=True)) if (a != b).any()]
    assert {5, 6, 7, 8} <= set(differs)
    if kind in {"mouth_jitter", "face_wobble", "seam"}:  # all pictures alike, but for the noise
        # Beside the gap it has faded: one picture away from it there is little left.
        whole = damaged(kind, 1.0)[15]
        beside = np.abs(made[15].astype(float) - pictures[15]).mean()
        assert 0 < beside < 0.6 * np.abs(whole.astype(float) - pictures[15]).mean()


@pytest.mark.parametrize("kind", TYPES)
def test_a_video_with_hardly_a_face_is_refused(kind):
    pictures, face = clean()
    found = np.arange(COUNT) < 0.4 * COUNT
    seen = scene(replace(face, found=found), pictures[0].shape[:2])
    with pytest.raises(VideoError, match=f"{kind} .* 40% of the pictures") as error:
        list(BY_TYPE[kind].apply(pictures, 1.0, seen))
    assert (error.value.stage, error.value.reason) == ("faces", "no_face")


def test_a_face_at_the_edge_of_the_picture_does_no_harm():
    pictures, face = clean()
    x = int(face.points[0, 1, 0])  # the tip of the nose is cut off
    cut = [np.ascontiguousarray(p[:, x:]) for p in pictures[:6]]
    points = FacePoints(face.points[:6] - [x, 0], face.found[:6])
    for artefact in BY_TYPE.values():
        made = list(artefact.apply(cut, 1.0, scene(points, cut[0].shape[:2])))
        assert [m.shape for m in made] == [c.shape for c in cut]


# --- mouth


def test_frozen_lips_stand_still_for_the_share():
    moving = distance(clean()[1].points, LIPS)
    for severity in (0.4, 0.7):
        half = severity * COUNT / 2
        span = slice(round(COUNT / 2 - half) + 1, round(COUNT / 2 + half))
        found = distance(damaged_mesh("frozen_mouth", severity), LIPS)
        assert moving[span].std() > 0.02
        assert found[span].std() < 0.2 * moving[span].std()
    still = []
    for severity in FEW:
        pairs = zip(clean()[0], damaged("frozen_mouth", severity), strict=True)
        still.append(sum(bool((a != b).any()) for a, b in pairs))
    # The first picture of the span is the one that is held.
    assert still == pytest.approx([s * COUNT for s in FEW], abs=2)


def test_a_frozen_mouth_moves_with_the_head():
    """The head of the demo sways; against the bridge of the nose the lips stay where they are."""
    held = damaged_mesh("frozen_mouth", 0.7)[6:25]
    assert tremble(held) < 0.65 * tremble(clean()[1].points[6:25])
    nose = clean()[1].points[6:25, 1]
    assert np.ptp(nose, axis=0).max() > 2.0  # pixels: it does sway
    lips = held[:, list(CORNERS)].mean(axis=1)
    assert np.abs((lips - lips[0]) - (nose - nose[0])).max() < 1.5


def test_damped_lips_move_by_the_factor():
    clean_points = clean()[1].points
    opening = [float(distance(clean_points, LIPS).std())]
    opening += [float(distance(damaged_mesh("damped_mouth", s), LIPS).std()) for s in FEW]
    assert rising([-v for v in opening], by=0.1 * opening[0])
    left = np.array(opening) / opening[0]
    # The mesh follows quick lips late, and sees a little gap between closed ones.
    np.testing.assert_allclose(left, 1 - np.array([0.0, *FEW]), atol=0.3)
    width = [distance(p, CORNERS).std() for p in (clean_points, damaged_mesh("damped_mouth", 1.0))]
    assert width[1] < 0.8 * width[0]
    # The eyes and brows are not part of it.
    brows = [deviation(p, BROWS) for p in (clean_points, damaged_mesh("damped_mouth", 1.0))]
    assert brows[1] > 0.7 * brows[0]


def test_a_trembling_mouth_trembles_more_and_more():
    found = [tremble(clean()[1].points)]
    found += [tremble(damaged_mesh("mouth_jitter", s)) for s in FEW]
    assert rising(found)
    assert found[-1] > 4 * found[0]


def test_jitter_displaces_by_what_it_says():
    """Phase correlation of the lips, which no mesh is asked for."""
    pictures, face = clean()
    shifts = {}
    for severity in (0.6, 1.0):
        moved = []
        for before, after, points in zip(
            pictures, damaged("mouth_jitter", severity), face.points, strict=True
        ):
            x, y = np.rint(points[[13, 14]].mean(axis=0)).astype(int)
            eyes = float(np.linalg.norm(points[33] - points[263]))
            r = round(0.3 * eyes)
            a, b = (
                cv2.cvtColor(p[y - r : y + r, x - r : x + r], cv2.COLOR_RGB2GRAY).astype(np.float32)
                for p in (before, after)
            )
            window = cv2.createHanningWindow(a.shape[::-1], cv2.CV_32F)
            moved.append(np.array(cv2.phaseCorrelate(a, b, window)[0]) / eyes)
        shifts[severity] = np.stack(moved)
        want = BY_TYPE["mouth_jitter"].measures(severity)["displacement_eye_distances"]
        assert shifts[severity].std() == pytest.approx(want, rel=0.35)
    # One noise at all severities.
    assert np.corrcoef(shifts[0.6].ravel(), shifts[1.0].ravel())[0, 1] > 0.9


# --- expression


@pytest.mark.parametrize(("kind", "sign"), [("exaggerated", 1), ("flattened", -1)])
def test_expression_grows_and_shrinks(kind, sign):
    meshes = [clean()[1].points, *(damaged_mesh(kind, s) for s in FEW)]
    face = [sign * deviation(points) for points in meshes]
    assert rising(face)
    brows = [deviation(points, BROWS) for points in (meshes[0], meshes[3])]
    assert brows[1] > 1.4 * brows[0] if kind == "exaggerated" else brows[1] < 0.75 * brows[0]
    ratio = deviation(meshes[3]) / deviation(meshes[0])
    assert ratio > 1.7 if kind == "exaggerated" else ratio < 0.7


def test_lips_never_cross():
    """A mouth that is closed in the clean video stays closed and whole when all is exaggerated."""
    points = clean()[1].points
    closed = int(distance(points, LIPS).argmin())
    found = distance(damaged_mesh("exaggerated", 1.0), LIPS)
    assert found[closed] < distance(points, LIPS)[closed] + 0.02


def test_a_wobbling_face_changes_its_shape():
    found = [deviation(clean()[1].points)]
    found += [deviation(damaged_mesh("face_wobble", s)) for s in (0.4, 1.0)]
    assert rising(found)
    assert found[-1] > 1.5 * found[0]


# --- seam


def profile(pictures, points):
    """Mean colour [40, 3] along rays from the middle of the face, from 0.84 of its size to 1."""
    total = 0.0
    for picture, mesh_points in zip(pictures, points, strict=True):
        outline = mesh_points[OVAL]
        middle = outline.mean(axis=0)
        radius = np.linspace(0.84, 1.0, 40)[:, None, None]
        at = (middle + radius * (outline - middle) - 0.5).astype(np.float32)
        values = cv2.remap(picture.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
        total = total + values.mean(axis=1)
    return total / len(pictures)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_edge_of_the_face_becomes_a_step(seed):
    """The steepest step across the outline, averaged around the face; skin has none there."""
    points = clean()[1].points[9:19]
    steps = []
    for severity in SEVERITIES:
        before, after = (profile(p, points) for p in damaged_part("seam", severity, seed))
        steps.append(float(np.linalg.norm(np.diff(after - before, axis=0), axis=1).max()))
    assert rising(steps)
    bare, pasted = (
        float(np.linalg.norm(np.diff(p, axis=0), axis=1).max()) for p in (before, after)
    )
    assert pasted > 1.5 * bare
    # Inside, the colour is off by about what is said; in half of the cases it is darker.
    offset = np.abs((after - before)[:10].mean())
    assert offset == pytest.approx(BY_TYPE["seam"].measures(1.0)["offset_levels"], rel=0.2)
    assert np.abs((after - before)[-4:]).max() < 0.05 * offset


def test_a_pasted_face_is_less_sharp():
    pictures, face = clean()

    def sharpness(images):
        values = []
        for image, points in zip(images, face.points, strict=True):
            x, y = np.rint(points[1]).astype(int)
            part = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[y - 30 : y + 30, x - 30 : x + 30]
            values.append(cv2.Laplacian(part.astype(np.float64), cv2.CV_64F).var())
        return float(np.mean(values))

    assert rising([-sharpness(i) for i in (pictures, damaged("seam", 0.4), damaged("seam", 1.0))])


# --- a real face


def test_on_a_real_clip():
    import av

    path = clips_dir() / "real" / "talk_mpeg4_16k.mp4"
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        pictures = [next(frames).to_ndarray(format="rgb24") for _ in range(25)]
    points = mesh(pictures)
    seen = scene(FacePoints(points, np.ones(25, np.bool_)), pictures[0].shape[:2])

    def after(kind, severity):
        return mesh(BY_TYPE[kind].apply(pictures, severity, seen))

    opening = distance(points, LIPS).std()
    assert distance(after("damped_mouth", 1.0), LIPS).std() < 0.3 * opening
    assert distance(after("frozen_mouth", 0.8)[3:22], LIPS).std() < 0.3 * opening
    assert distance(after("exaggerated", 1.0), LIPS).std() > 1.4 * opening
    assert tremble(after("mouth_jitter", 1.0)) > 3 * tremble(points)
