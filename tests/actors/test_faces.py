"""Detection, tracking, patches and crops."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import map_coordinates
from scipy.signal import medfilt

from actors.crops import (
    Patch,
    PatchTooSmall,
    align_face,
    clip_region,
    patch_region,
    sync_crop,
    sync_region,
)
from actors.detectors import (
    Detection,
    DetectorConfig,
    MediaPipeDetector,
    decode_scrfd,
    iou,
    letterbox,
    make_detector,
    shrink,
    suppress,
)
from actors.faces import (
    FACE_FIELDS,
    FacesConfig,
    build_tracks,
    face_stats,
    fill_gaps,
    main_track,
    sync_boxes,
    track_main_face,
)
from model.geometry import FACE_TEMPLATE, LIPS_TEMPLATE, apply, invert, umeyama

CONFIG = FacesConfig()


def face(x, y, side, score=0.9):
    return Detection(np.array([x, y, x + side, y + side], np.float64), score)


# --- boxes


def test_iou_and_suppression():
    a = np.array([[0.0, 0, 2, 2], [0, 0, 0, 0]])
    b = np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    np.testing.assert_allclose(iou(a, b), [[1 / 7, 1, 0], [0, 0, 0]])
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 4]])
    assert suppress(boxes, np.array([0.5, 0.9, 0.7, 0.6]), 0.4) == [1, 2, 3]


# --- tracks


def test_two_crossing_free_faces_are_followed_apart():
    frames = [[face(10 + 2 * t, 50, 40), face(300 - 2 * t, 60, 60)] for t in range(30)]
    frames = [f if t % 2 else f[::-1] for t, f in enumerate(frames)]  # order carries no meaning
    tracks = build_tracks(frames, CONFIG)
    assert len(tracks) == 2
    for track in tracks:
        sides = {b[2] - b[0] for b in track.boxes}
        assert len(sides) == 1
        assert track.frames == list(range(30))


@pytest.mark.parametrize(("gap", "tracks"), [(12, 1), (13, 2)])
def test_a_gap_is_bridged_up_to_its_limit(gap, tracks):
    frames = [[face(50, 50, 40)]] * 5 + [[]] * gap + [[face(54, 50, 40)]] * 5
    assert len(build_tracks(frames, CONFIG)) == tracks


def test_boxes_inside_a_gap_are_interpolated_and_nan_outside():
    frames = [[], [face(0, 0, 40)], [], [], [face(9, 3, 40)], []]
    track = track_main_face(frames, CONFIG)
    assert track.detected.tolist() == [False, True, False, False, True, False]
    assert track.present.tolist() == [False, True, True, True, True, False]
    np.testing.assert_allclose(track.box[2], [3, 1, 43, 41])
    np.testing.assert_allclose(track.box[3], [6, 2, 46, 42])
    assert np.isnan(track.box[[0, 5]]).all()


def test_the_main_face_is_the_longest_times_the_largest():
    small_long = [[face(10, 10, 30)] for _ in range(100)]
    for t in range(20):
        small_long[t].append(face(200, 10, 120))
    assert main_track(build_tracks(small_long, CONFIG)).weight() == 30 * 100
    for t in range(20, 30):
        small_long[t].append(face(200, 10, 120))
    assert main_track(build_tracks(small_long, CONFIG)).weight() == 120 * 30


def test_a_video_without_faces_is_no_error():
    track = track_main_face([[], [], []], CONFIG)
    assert track.n_tracks == 0
    assert not track.present.any()
    stats = face_stats(
        track, np.arange(3), np.arange(150) < 3, np.zeros(150, np.bool_), "mediapipe-blazeface"
    )
    assert list(stats) == list(FACE_FIELDS)
    assert stats["box_width"] is None
    assert stats["face_share"] == 0


def test_statistics_of_a_clip_count_real_frames_only():
    frames = [[face(0, 0, 40)], [face(0, 0, 40), face(200, 0, 20)], [], [face(0, 0, 44)]]
    track = track_main_face(frames, CONFIG)
    frame_mask = np.zeros(150, np.bool_)
    frame_mask[[0, 1, 2]] = True  # the fourth frame is black
    face_mask = np.zeros(150, np.bool_)
    face_mask[[0, 1]] = True
    stats = face_stats(track, np.array([0, 1, 2, 3]), frame_mask, face_mask, "d")
    assert stats == {
        "tracks": 2,
        "max_faces": 2,
        "multi_face_share": pytest.approx(1 / 3),
        "face_share": pytest.approx(2 / 3),
        "detected_share": pytest.approx(2 / 3),
        "main_track_frames": 3,
        "box_width": 40,
        "box_height": 40,
        "detector": "d",
    }


def test_many_tracks_stay_cheap():
    """Closed tracks are not searched again: flickering faces link in linear time."""
    frames = [[face(900 * (t % 7), 0, 40)] for t in range(20_000)]
    assert len(build_tracks(frames, FacesConfig(max_gap=0))) == 20_000


# --- SyncNet's boxes and crop


def test_sync_boxes_agree_with_scipy_medfilt():
    rng = np.random.default_rng(0)
    corner = np.cumsum(rng.normal(0, 3, (60, 2)), axis=0) + 200
    size = rng.uniform(80, 120, (60, 2))
    box = np.concatenate([corner, corner + size], axis=1)
    raw = [*(corner + size / 2).T, size.max(axis=1) / 2]
    zero, nearest = sync_boxes(box, "zero"), sync_boxes(box)
    for column in range(3):
        truth = medfilt(raw[column], kernel_size=13)
        np.testing.assert_allclose(zero[:, column], truth, atol=1e-9)
        np.testing.assert_allclose(nearest[6:-6, column], truth[6:-6], atol=1e-9)
    assert (zero[0] <= nearest[0] + 1e-9).all()  # what zero padding does to the ends


def test_sync_boxes_leave_frames_without_face_alone():
    box = np.full((20, 4), np.nan)
    box[3:8] = [10, 10, 50, 60]
    box[12:20] = [100, 10, 150, 60]
    out = sync_boxes(box)
    assert np.isnan(out[[0, 1, 2, 8, 11]]).all()
    np.testing.assert_allclose(out[3:8], [[30, 35, 25]] * 5)
    np.testing.assert_allclose(out[12:], [[125, 35, 25]] * 8)


def naive_sync_crop(frame, cx, cy, s):
    """The published pipeline: pad the whole frame, cut, resize by half-pixel bilinear."""
    pad = int(s * (1 + 2 * 0.40))
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=110)
    my, mx = cy + pad, cx + pad
    cut = padded[int(my - s) : int(my + s * (1 + 2 * 0.40)), int(mx - s * 1.4) : int(mx + s * 1.4)]
    height, width = cut.shape[:2]
    y = np.clip((np.arange(224) + 0.5) * height / 224 - 0.5, 0, height - 1)
    x = np.clip((np.arange(224) + 0.5) * width / 224 - 0.5, 0, width - 1)
    grid = np.meshgrid(y, x, indexing="ij")
    resized = [map_coordinates(cut[..., c].astype(float), grid, order=1) for c in range(3)]
    return cut, np.stack(resized, axis=-1)


@pytest.mark.parametrize(
    ("cx", "cy", "s"),
    [
        (150.3, 120.7, 45.2),
        (20.0, 15.5, 60.9),
        (290.9, 230.1, 80.4),
        (160, 120, 200.7),
        (7, 3, 9.5),
    ],
)
def test_sync_crop_agrees_with_the_published_pipeline(cx, cy, s):
    frame = np.random.default_rng(5).integers(0, 256, (240, 320, 3), np.uint8)
    cut, truth = naive_sync_crop(frame, cx, cy, s)
    window = Patch.whole(frame).window(sync_region(cx, cy, s))
    np.testing.assert_array_equal(window, cut)  # the region to the pixel
    crop = sync_crop(Patch.whole(frame), cx, cy, s)
    expected = cv2.resize(np.ascontiguousarray(cut), (224, 224))
    assert np.abs(crop.astype(float) - expected).max() <= 1e-4  # the original calls cv2.resize
    assert np.abs(crop - truth).max() <= 1.01  # and that is bilinear, rounded to whole grey levels


def test_sync_crop_refuses_nonsense():
    patch = Patch.whole(np.zeros((10, 10, 3), np.uint8))
    for bad in [(np.nan, 5, 5), (5, 5, 0.2), (5, 5, np.inf)]:
        with pytest.raises(ValueError, match="finite centre"):
            sync_crop(patch, *bad)


# --- patches


def test_a_patch_gives_the_same_bits_as_the_whole_frame():
    rng = np.random.default_rng(7)
    frame = rng.integers(0, 256, (480, 640, 3), np.uint8)
    for _ in range(30):
        side = rng.uniform(40, 160)
        x, y = rng.uniform(-0.2 * side, 640 - 0.8 * side), rng.uniform(-0.2 * side, 480 - side)
        box = np.array([x, y, x + side, y + side])
        region = patch_region(box, 640, 480)
        patch, whole = Patch.cut(frame, region), Patch.whole(frame)
        drift = rng.uniform(-0.2, 0.2, 2) * side  # of the median filter
        sync = (x + side / 2 + drift[0], y + side / 2 + drift[1], side / 2)
        np.testing.assert_array_equal(sync_crop(patch, *sync), sync_crop(whole, *sync))
        five = (FACE_TEMPLATE - 112) / 112 * 0.72 * side + [x + side / 2, y + side / 2]
        for part in ("face", "lips"):
            np.testing.assert_array_equal(
                align_face(patch, five, part), align_face(whole, five, part)
            )


def test_a_patch_that_is_too_small_says_so():
    frame = np.zeros((200, 200, 3), np.uint8)
    patch = Patch.cut(frame, (50, 50, 100, 100))
    with pytest.raises(PatchTooSmall, match="200x200"):
        sync_crop(patch, 75, 75, 30)
    with pytest.raises(PatchTooSmall):
        align_face(patch, FACE_TEMPLATE * 0.5)
    assert patch.window((60, 60, 70, 80)).shape == (20, 10, 3)
    # Beyond the picture there is nothing to miss.
    assert Patch.cut(frame, (0, 0, 50, 50)).window((-30, -30, -10, 20)).min() == 110


def test_patch_region_holds_all_faces_and_stays_inside():
    boxes = [[10, 10, 50, 50], [300, 200, 360, 260]]
    region = patch_region(boxes, 400, 300, margin=0.15)
    assert region == (0, 0, 399, 299)
    assert patch_region([], 400, 300) is None
    assert patch_region([[900, 900, 910, 910]], 400, 300) is None
    assert clip_region((-5, 2, 500, 10), 400, 300) == (0, 2, 400, 10)


# --- alignment


@pytest.mark.parametrize("region", ["face", "lips"])
def test_alignment_samples_bilinearly_where_the_transform_says(region):
    rng = np.random.default_rng(8)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (300, 400, 3), np.uint8), (0, 0), 2)
    angle = np.deg2rad(17)
    turn = 0.9 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    five = (FACE_TEMPLATE - 112) @ turn.T + [205.3, 148.8] + rng.normal(0, 1, (5, 2))
    crop = align_face(Patch.whole(smooth), five, region)
    matrix = umeyama(five, FACE_TEMPLATE if region == "face" else LIPS_TEMPLATE)
    columns, rows = np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5)
    source = apply(invert(matrix), np.stack([columns.ravel(), rows.ravel()], 1)) - 0.5
    inside = ((source >= 0) & (source <= [399, 299])).all(axis=1).reshape(224, 224)
    assert inside.mean() > 0.7
    truth = np.stack(
        [map_coordinates(smooth[..., c].astype(float), source.T[::-1], order=1) for c in range(3)],
        1,
    ).reshape(224, 224, 3)
    error = np.abs(crop.astype(float) - truth)[inside]
    assert error.mean() < 0.5
    assert error.max() < 4  # OpenCV rounds positions to 1/32 pixel


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.7, 6.0])
def test_aligned_points_land_on_the_template(scale):
    """Spots painted at the five points have their centres at the template's points."""
    five = FACE_TEMPLATE * scale + [30, 20]
    height, width = (int(v) for v in 224 * scale + 60 + np.zeros(2))
    rows, columns = np.mgrid[:height, :width] + 0.5
    for point, goal in zip(five, FACE_TEMPLATE, strict=True):
        spot = np.exp(
            -((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / (2 * (4 * scale) ** 2)
        )
        image = np.repeat((255 * spot).round().astype(np.uint8)[..., None], 3, axis=2)
        crop = align_face(Patch.whole(image), five)[..., 0].astype(float)
        y, x = np.mgrid[:224, :224] + 0.5
        crop[crop == 110] = 0  # the padding
        centre = [(crop * x).sum() / crop.sum(), (crop * y).sum() / crop.sum()]
        np.testing.assert_allclose(centre, goal, atol=0.6)


def test_fine_texture_of_a_large_face_does_not_alias():
    rows, columns = np.mgrid[:1000, :1000]
    checker = np.repeat((255 * ((rows + columns) % 2)).astype(np.uint8)[..., None], 3, axis=2)
    crop = align_face(Patch.whole(checker), FACE_TEMPLATE * 4.2 + 20)
    assert np.ptp(crop[20:-20, 20:-20].astype(int)) <= 4


# --- detectors


def test_configuration_of_the_detector():
    with pytest.raises(ValidationError, match="needs `weights`"):
        DetectorConfig(kind="onnx")
    with pytest.raises(ValueError, match="do not exist"):
        make_detector(DetectorConfig(kind="onnx", weights="/nowhere/scrfd.onnx"))


def test_onnxruntime_is_named_when_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "scrfd.onnx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="pip install"):
        make_detector(DetectorConfig(kind="onnx", weights=str(tmp_path / "scrfd.onnx")))


def scrfd_outputs(side, faces, points=True):
    """Outputs for ``faces``: (stride, row, column, anchor, score, box, five points)."""
    scores, boxes, shifts = [], [], []
    for stride in (8, 16, 32):
        n = side // stride
        score = np.full((n, n, 2, 1), 0.01, np.float32)
        box = np.zeros((n, n, 2, 4), np.float32)
        shift = np.zeros((n, n, 2, 5, 2), np.float32)
        for s, row, column, anchor, value, (x0, y0, x1, y1), five in faces:
            if s != stride:
                continue
            cx, cy = column * stride, row * stride
            score[row, column, anchor] = value
            box[row, column, anchor] = np.array([cx - x0, cy - y0, x1 - cx, y1 - cy]) / stride
            shift[row, column, anchor] = (np.array(five) - [cx, cy]) / stride
        scores.append(score.reshape(-1, 1))
        boxes.append(box.reshape(-1, 4))
        shifts.append(shift.reshape(-1, 10))
    return scores + boxes + (shifts if points else [])


FIVE = [[30.0, 40], [50, 41], [40, 50], [32, 60], [48, 61]]
SHIFT = np.array([80, 40])
SEEN = [
    (8, 6, 5, 1, 0.9, (20, 25, 61, 72), FIVE),
    (16, 3, 2, 0, 0.8, (21, 26, 62, 73), FIVE),  # the same face on another level
    (32, 3, 4, 1, 0.7, (100, 60, 150, 120), np.array(FIVE) + SHIFT),
    (32, 0, 0, 0, 0.4, (0, 0, 50, 50), FIVE),  # below the threshold
]


def test_scrfd_outputs_are_decoded():
    found = decode_scrfd(scrfd_outputs(160, SEEN), 160, 0.5, 0.5, 0.4)
    assert [round(d.score, 3) for d in found] == [0.9, 0.7]
    np.testing.assert_allclose(found[0].box, np.array([20, 25, 61, 72]) * 2, atol=1e-4)
    np.testing.assert_allclose(found[0].keypoints, np.array(FIVE) * 2, atol=1e-4)
    np.testing.assert_allclose(found[1].keypoints, (np.array(FIVE) + SHIFT) * 2, atol=1e-4)


def test_scrfd_without_key_points_and_with_a_leading_batch_axis():
    outputs = [o[None] for o in scrfd_outputs(160, SEEN, points=False)]
    found = decode_scrfd(outputs, 160, 1.0, 0.5, 0.4)
    assert len(found) == 2
    assert found[0].keypoints is None
    assert decode_scrfd(scrfd_outputs(160, []), 160, 1.0, 0.5, 0.4) == []


def test_foreign_networks_are_refused():
    with pytest.raises(ValueError, match="6 or 9 outputs"):
        decode_scrfd([np.zeros((5, 1), np.float32)] * 3, 160, 1.0, 0.5, 0.4)
    with pytest.raises(ValueError, match="check `input_size`"):
        decode_scrfd(scrfd_outputs(320, []), 160, 1.0, 0.5, 0.4)


def test_letterbox_keeps_the_aspect_ratio():
    image = np.full((100, 200, 3), [255, 127, 0], np.uint8)
    tensor, scale = letterbox(image, 64)
    assert tensor.shape == (1, 3, 64, 64)
    assert scale == pytest.approx(0.32)
    np.testing.assert_allclose(
        tensor[0, :, 10, 10], [127.5 / 128, -0.5 / 128, -127.5 / 128], rtol=1e-6
    )
    np.testing.assert_allclose(tensor[0, :, 32:], -127.5 / 128)


def test_scrfd_runs_a_session(tmp_path, monkeypatch):
    fed = {}

    class Session:
        def __init__(self, path, sess_options, providers):
            fed.update(path=path, threads=sess_options.intra_op_num_threads)

        def get_inputs(self):
            return [SimpleNamespace(name="input.1")]

        def run(self, names, feed):
            fed["shape"] = feed["input.1"].shape
            return scrfd_outputs(160, SEEN)

    fake = SimpleNamespace(
        SessionOptions=lambda: SimpleNamespace(intra_op_num_threads=0), InferenceSession=Session
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    weights = tmp_path / "scrfd_10g.onnx"
    weights.write_bytes(b"x")
    detector = make_detector(DetectorConfig(kind="onnx", weights=str(weights), input_size=160))
    found = detector.detect(np.zeros((320, 240, 3), np.uint8))
    assert detector.name == "onnx-scrfd_10g"
    assert fed == {"path": str(weights), "threads": 1, "shape": (1, 3, 160, 160)}
    np.testing.assert_allclose(found[0].box, np.array([20, 25, 61, 72]) * 2, atol=1e-4)


def test_shrinking_is_by_whole_numbers():
    image = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    assert shrink(image, 40)[0] is image
    small, factor = shrink(image, 39)
    assert (small.shape, factor) == ((20, 15, 3), 2)
    small, factor = shrink(image, 13)
    assert (small.shape, factor) == ((10, 7, 3), 4)
    mean = image[:8, :8].reshape(2, 4, 2, 4, 3).mean(axis=(1, 3))
    assert np.abs(small[:2, :2] - mean).max() <= 0.5


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="module")
def blazeface():
    return MediaPipeDetector(DetectorConfig())


def test_mediapipe_finds_the_face_where_it_is(astronaut, blazeface):
    (found,) = blazeface.detect(astronaut)
    assert 0.5 < found.score <= 1
    assert found.keypoints.shape == (6, 2)
    right_eye, left_eye = found.keypoints[:2]  # seen at (207, 106) and (243, 108) in the picture
    np.testing.assert_allclose(right_eye, [207, 106], atol=8)
    np.testing.assert_allclose(left_eye, [243, 108], atol=8)
    assert blazeface.detect(np.zeros((300, 200, 3), np.uint8)) == []


@pytest.mark.parametrize("size", [(1080, 1920), (1920, 1080), (2160, 3840)])
def test_mediapipe_finds_small_faces_of_the_right_size(astronaut, blazeface, size):
    """A face of 8 % of the longer side: only the full-range model sees it."""
    truth = blazeface.detect(astronaut)[0].box
    picture = np.full((*size, 3), 90, np.uint8)
    scale = 0.08 * max(size) / (truth[2] - truth[0])
    large = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    large = large[:900, :900]
    picture[100 : 100 + large.shape[0], 100 : 100 + large.shape[1]] = large
    found = blazeface.detect(picture)
    assert max(float(iou(truth * scale + 100, d.box)[0, 0]) for d in found) > 0.7


def test_mediapipe_does_not_remember(astronaut, blazeface):
    first = blazeface.detect(astronaut)[0]
    blazeface.detect(np.roll(astronaut, 150, axis=1))
    blazeface.detect(np.zeros((64, 64, 3), np.uint8))
    again = blazeface.detect(astronaut)[0]
    np.testing.assert_array_equal(first.box, again.box)
    assert first.score == again.score


def test_fill_gaps_of_a_full_track_changes_nothing():
    frames = [[face(3 * t, 2 * t, 50 + t)] for t in range(9)]
    (track,) = build_tracks(frames, CONFIG)
    np.testing.assert_allclose(fill_gaps(track, 9), np.stack([f[0].box for f in frames]))
