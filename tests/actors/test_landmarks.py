"""Face Mesh over clips: the astronaut in motion, and real clips where there are any."""

import cv2
import numpy as np
import pytest

from actors.action_units import lip_opening
from actors.crops import Patch, PatchTooSmall, align_face, patch_region
from actors.detectors import DetectorConfig, MediaPipeDetector
from actors.faces import FacesConfig, track_main_face
from actors.landmarks import (
    POINTS,
    FaceMesher,
    LandmarksConfig,
    belongs,
    five_points,
    mesh_region,
)
from model.geometry import FACE_TEMPLATE, apply, umeyama
from tests.support import clips_dir

FRAMES = 12


@pytest.fixture(scope="module")
def mesher():
    return FaceMesher(LandmarksConfig())


@pytest.fixture(scope="module")
def detector():
    return MediaPipeDetector(DetectorConfig())


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


def motion(t):
    """The head sways, nods and comes nearer."""
    angle, scale = 6 * np.sin(t / 3), 1.6 + 0.03 * t
    matrix = cv2.getRotationMatrix2D((225, 125), angle, scale)
    matrix[:, 2] += [40 + 3 * t, 130 + 2 * t]
    return matrix


@pytest.fixture(scope="module")
def moving(astronaut):
    return [cv2.warpAffine(astronaut, motion(t), (640, 480)) for t in range(FRAMES)]


@pytest.fixture(scope="module")
def boxes(moving, detector):
    return track_main_face([detector.detect(image) for image in moving], FacesConfig()).box


def whole(images):
    return [Patch.whole(image) for image in images]


def pixels(points, image):
    height, width = image.shape[:2]
    return points[..., :2] * [width, height]


def test_landmarks_follow_a_known_motion(mesher, moving, boxes):
    """Every frame's mesh is the first one's, moved as the picture was."""
    points, found = mesher(whole(moving), boxes)
    assert found.all()
    assert points.dtype == np.float32
    placed = pixels(points, moving[0])
    first = apply(np.linalg.inv(np.vstack([motion(0), [0, 0, 1]]))[:2], placed[0])
    unit = np.linalg.norm(placed[0, 33] - placed[0, 263])
    for t in range(FRAMES):
        error = np.linalg.norm(placed[t] - apply(motion(t), first), axis=1).mean()
        assert error / unit < 0.06


def test_agrees_with_plain_face_mesh_on_the_whole_picture(mesher, moving, boxes):
    from mediapipe.python.solutions.face_mesh import FaceMesh

    points, _ = mesher(whole(moving), boxes)
    height, width = moving[0].shape[:2]
    with FaceMesh(static_image_mode=True, max_num_faces=1) as plain:
        for t in (0, 5, 11):
            face = plain.process(moving[t]).multi_face_landmarks[0].landmark
            truth = np.array([(p.x * width, p.y * height, p.z * width) for p in face])
            ours = points[t] * [width, height, width]
            unit = np.linalg.norm(truth[33, :2] - truth[263, :2])
            assert np.linalg.norm(ours[:, :2] - truth[:, :2], axis=1).mean() / unit < 0.04
            assert np.abs(ours[:, 2] - truth[:, 2]).mean() / unit < 0.05


def test_a_clip_does_not_depend_on_the_clips_before_it(mesher, moving, boxes, astronaut):
    reference, _ = FaceMesher(LandmarksConfig())(whole(moving), boxes)
    other = [np.ascontiguousarray(image[:, ::-1]) for image in moving]
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = 640 - boxes[:, [2, 0]]
    mesher(whole(other), mirrored)
    mesher(whole(moving[6:]), boxes[6:])
    again, _ = mesher(whole(moving), boxes)
    np.testing.assert_array_equal(again, reference)
    tail, _ = mesher(whole(moving[6:]), boxes[6:])
    mesher(whole([np.zeros_like(moving[0])] * 3), boxes[:3])
    np.testing.assert_array_equal(mesher(whole(moving[6:]), boxes[6:])[0], tail)


def test_patches_give_the_same_bits(mesher, moving, boxes):
    reference, _ = mesher(whole(moving), boxes)
    cut = [
        Patch.cut(image, patch_region(box, 640, 480))
        for image, box in zip(moving, boxes, strict=True)
    ]
    points, found = mesher(cut, boxes)
    assert found.all()
    np.testing.assert_array_equal(points, reference)
    with pytest.raises(PatchTooSmall):
        mesher([Patch.cut(moving[0], (300, 200, 340, 240))], boxes[:1])


def test_frames_without_picture_box_or_face_are_not_found(mesher, moving, boxes):
    patches = whole(moving)
    patches[3] = None
    patches[5] = Patch.whole(np.zeros_like(moving[5]))
    gaps = boxes.copy()
    gaps[8] = np.nan
    points, found = mesher(patches, gaps)
    assert found.tolist() == [t not in (3, 5, 8) for t in range(FRAMES)]
    assert (points[~found] == 0).all()
    assert (points[found, :, :2] > 0).all()
    nothing, none = mesher([None, None], np.full((2, 4), np.nan))
    assert nothing.shape == (2, 468, 3)
    assert not none.any()
    with pytest.raises(ValueError, match="12 patches, but 2 boxes"):
        mesher(patches, boxes[:2])


def test_the_mesh_is_of_the_main_face_when_there_are_two(mesher, astronaut, detector):
    head = cv2.resize(astronaut[20:240, 110:340], None, fx=1.5, fy=1.5)  # 345 x 330
    picture = np.full((330, 700, 3), 60, np.uint8)
    picture[:, :345] = head
    picture[:, 355:] = head[:, ::-1]
    found = sorted(detector.detect(picture), key=lambda d: d.box[0])
    assert len(found) == 2
    for detection in found:
        points, ok = mesher(whole([picture] * 4), np.stack([detection.box] * 4))
        assert ok.all()
        x = points[:, :, 0] * 700
        assert (np.abs(x.mean(axis=1) - detection.box[[0, 2]].mean()) < 40).all()


def test_large_faces_are_shrunk_without_harm(mesher, astronaut, detector):
    large = cv2.resize(astronaut[:300, 60:400], None, fx=7, fy=7, interpolation=cv2.INTER_CUBIC)
    box = detector.detect(large)[0].box
    assert box[2] - box[0] > 640
    points, found = mesher(whole([large, large]), np.stack([box, box]))
    assert found.all()
    small = cv2.resize(large, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
    reference, _ = mesher(whole([small, small]), np.stack([box, box]) / 3)
    unit = np.linalg.norm(reference[0, 33] - reference[0, 263])
    assert np.linalg.norm(points[1] - reference[1], axis=1).mean() / unit < 0.03


def test_a_mesh_of_somebody_else_is_rejected():
    points = np.random.default_rng(0).uniform(100, 200, (468, 2))
    assert belongs(points, [100, 100, 200, 200], 0.3)
    assert not belongs(points, [180, 100, 280, 200], 0.1)  # its middle lies outside
    assert not belongs(points, [0, 0, 900, 900], 0.3)


def test_the_five_points_align_the_astronaut(mesher, moving, boxes):
    points, _ = mesher(whole(moving), boxes)
    for t in (0, 11):
        five = five_points(points[t], (480, 640))
        fitted = apply(umeyama(five, FACE_TEMPLATE), five)
        assert np.abs(fitted - FACE_TEMPLATE).max() < 18  # she smiles; the template does not
    crops = [
        align_face(Patch.whole(moving[t]), five_points(points[t], (480, 640))) for t in (0, 11)
    ]
    middle = [crop[60:180, 60:165].astype(float) for crop in crops]
    # The same face at another place, size and angle gives the same crop.
    assert np.corrcoef(middle[0].ravel(), middle[1].ravel())[0, 1] > 0.95


def test_the_mesh_region_lies_inside_what_is_kept():
    box = [200, 100, 300, 210]
    kept, seen = patch_region(box, 640, 480), mesh_region(box, 640, 480)
    assert kept[0] <= seen[0]
    assert kept[1] <= seen[1]
    assert kept[2] >= seen[2]
    assert kept[3] >= seen[3]


def test_pairs_of_the_table_are_mirror_images(mesher, moving, boxes):
    """Right and left points of a pair lie on either side of the nose, at about the same height."""
    points, _ = mesher(whole(moving[:1]), boxes[:1])
    p = pixels(points[0], moving[0])
    unit = np.linalg.norm(p[33] - p[263])
    for name, pair in POINTS.items():
        if len(pair) == 2:
            assert p[pair[0], 0] < p[1, 0] < p[pair[1], 0], name
            assert abs(p[pair[0], 1] - p[pair[1], 1]) < 0.3 * unit, name


def test_real_clips_are_followed_throughout(mesher, detector):
    for name in ("real/talk_mpeg4_16k.mp4", "real/talk_hevc_portrait.mp4"):
        path = clips_dir() / name
        if not path.exists():
            pytest.skip(f"{name} is absent")
        video = cv2.VideoCapture(str(path))
        images = [cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB) for _ in range(30)]
        video.release()
        track = track_main_face([detector.detect(image) for image in images], FacesConfig())
        assert track.detected.all()
        points, found = mesher(whole(images), track.box)
        assert found.all()
        opening = lip_opening(points.reshape(30, -1), images[0].shape[:2])
        assert np.ptp(opening) > 0.02  # somebody talks
