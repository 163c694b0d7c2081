"""Draw the pictures of docs/landmarks.md: the landmark table on a portrait, and a track on a clip.

    python -m benchmarks.draw_landmarks CLIP.mp4 [docs/images]

Needs scikit-image for the portrait (its public-domain `astronaut`).
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from actors.action_units import lip_opening
from actors.crops import Patch
from actors.detectors import DetectorConfig, make_detector
from actors.faces import FacesConfig, track_main_face
from actors.landmarks import POINTS, FaceMesher, LandmarksConfig, mesh_region

COLOURS = [
    (255, 90, 90),
    (80, 200, 255),
    (255, 215, 60),
    (120, 255, 120),
    (255, 140, 255),
    (255, 170, 60),
    (180, 180, 255),
]
FONT = cv2.FONT_HERSHEY_SIMPLEX
TILE, STRIP, COLUMNS, ROWS = 300, 150, 4, 2


def track(images):
    detector = make_detector(DetectorConfig())
    boxes = track_main_face([detector.detect(i) for i in images], FacesConfig()).box
    points, found = FaceMesher(LandmarksConfig())([Patch.whole(i) for i in images], boxes)
    return boxes, points, found


def draw_table(path):
    """The named points with their indices, on the enlarged portrait; all others as dots."""
    from skimage.data import astronaut

    image = astronaut()
    _, points, _ = track([image])
    factor, x0, y0, size = 8, 165, 52, 128
    view = cv2.resize(
        image[y0 : y0 + size, x0 : x0 + size],
        None,
        fx=factor,
        fy=factor,
        interpolation=cv2.INTER_CUBIC,
    )
    view = (view * 0.75).astype(np.uint8)
    height, width = image.shape[:2]
    p = (points[0, :, :2] * [width, height] - [x0, y0]) * factor
    for x, y in p:
        cv2.circle(view, (int(x), int(y)), 2, (190, 190, 190), -1, cv2.LINE_AA)
    for number, (name, indices) in enumerate(POINTS.items()):
        colour = COLOURS[number % len(COLOURS)]
        for index in indices:
            x, y = int(p[index, 0]), int(p[index, 1])
            cv2.circle(view, (x, y), 6, colour, -1, cv2.LINE_AA)
            up = name not in ("lower_lip", "lower_lid")
            place = (x - 18, y - 12) if up else (x - 18, y + 26)
            cv2.putText(view, str(index), (place[0] + 1, place[1] + 1), FONT, 0.62, (0, 0, 0), 1)
            cv2.putText(view, str(index), place, FONT, 0.62, colour, 1, cv2.LINE_AA)
    cv2.imwrite(str(path), view[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def lines(view, p, connections, colour):
    for a, b in connections:
        start, end = p[a].astype(int).tolist(), p[b].astype(int).tolist()
        cv2.line(view, start, end, colour, 1, cv2.LINE_AA)


def draw_track(clip, path):
    """Frames of a clip with mesh, lips and eyes; below, the lip opening over time."""
    from mediapipe.python.solutions import face_mesh_connections as mesh

    video = cv2.VideoCapture(str(clip))
    images = []
    while (read := video.read())[0]:
        images.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    video.release()
    height, width = images[0].shape[:2]
    boxes, points, found = track(images)
    opening = lip_opening(points.reshape(len(points), -1), (height, width))
    # One frame from each eighth of the clip: by turns the most closed and the most open lips.
    usual = np.where(found, opening, opening[found].mean())
    parts = np.array_split(np.arange(len(images)), COLUMNS * ROWS)
    chosen = [part[(np.argmin, np.argmax)[k % 2](usual[part])] for k, part in enumerate(parts)]
    tiles = []
    for t in chosen:
        x0, y0, x1, y1 = mesh_region(boxes[t], width, height)
        side = min(x1 - x0, y1 - y0)
        factor = TILE / side
        view = cv2.resize(
            images[t][y0 : y0 + side, x0 : x0 + side], (TILE, TILE), interpolation=cv2.INTER_AREA
        )
        p = (points[t, :, :2] * [width, height] - [x0, y0]) * factor
        net = view.copy()
        lines(net, p, mesh.FACEMESH_TESSELATION, (150, 220, 150))
        view = cv2.addWeighted(view, 0.65, net, 0.35, 0)
        lines(view, p, mesh.FACEMESH_LIPS, (255, 60, 60))
        for part in (mesh.FACEMESH_LEFT_EYE, mesh.FACEMESH_RIGHT_EYE):
            lines(view, p, part, (60, 200, 255))
        label = f"{t / 25:.2f} s  {opening[t]:.3f}"
        cv2.rectangle(view, (0, TILE - 26), (130, TILE), (0, 0, 0), -1)
        cv2.putText(view, label, (8, TILE - 10), FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(view)
    strip = np.full((STRIP, TILE * COLUMNS, 3), 255, np.uint8)
    x = np.linspace(10, TILE * COLUMNS - 10, len(images))
    y = STRIP - 15 - opening / max(opening.max(), 1e-6) * (STRIP - 45)
    line = np.stack([x, y], axis=1).round().astype(np.int32)
    cv2.polylines(strip, [line[:, None]], False, (40, 40, 40), 1, cv2.LINE_AA)
    for t in chosen:
        cv2.circle(strip, line[t].tolist(), 5, (255, 60, 60), -1, cv2.LINE_AA)
    title = f"lip opening in outer-eye distances, 0 to {opening.max():.3f}; dots: the frames above"
    cv2.putText(strip, title, (10, 18), FONT, 0.48, (40, 40, 40), 1, cv2.LINE_AA)
    rows = [np.concatenate(tiles[r * COLUMNS : (r + 1) * COLUMNS], axis=1) for r in range(ROWS)]
    sheet = np.concatenate([*rows, strip])
    cv2.imwrite(str(path), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def main():
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images")
    out.mkdir(parents=True, exist_ok=True)
    draw_table(out / "landmark_table.jpg")
    draw_track(Path(sys.argv[1]), out / "landmark_track.jpg")


if __name__ == "__main__":
    main()
