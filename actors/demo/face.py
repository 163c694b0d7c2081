"""The portrait in motion: lips that follow the visemes, blinks, brows and a moving head.

A triangle mesh covers the picture except for the slit of the mouth. Control points on lips, lids,
brows and chin are moved by formula and the rest follows smoothly (see ``mesh``), so the skin
stretches while the lips part cleanly; teeth, tongue and a dark cavity lie beneath. Coordinates are
pixels of the portrait (see ``portrait``) until the last step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.demo import mesh
from actors.demo import portrait as P
from actors.demo.looks import Look, paint, reshape
from actors.types import U8

F64 = NDArray[np.float64]

MAX_GAP = 15.0  # distance of the inner lips at opening 1: 0.24 interocular distances
_MOUTH_WIDTH = 35.0  # between the inner corners, relaxed
_RIM_POINTS = 25  # per lip


@dataclass(frozen=True, slots=True)
class Pose:
    """One instant of the face. All zeros: closed mouth, open eyes, head at rest."""

    opening: float = 0.0  # [0, 1]
    width: float = 0.0  # [-1, 1]
    rounding: float = 0.0  # [0, 1]
    blink: float = 0.0  # [0, 1], 1 = eyes shut
    brow: float = 0.0  # [-1, 1], 1 = raised
    roll: float = 0.0  # radians
    yaw: float = 0.0  # shift of the nose against the ears, pixels
    pitch: float = 0.0  # the same, downwards
    shift_x: float = 0.0  # of the head, pixels
    shift_y: float = 0.0
    scale: float = 1.0


class Face:
    """One speaker's face, ready to be drawn.

    Args:
        look: Shape and colours of the speaker.
    """

    def __init__(self, look: Look) -> None:
        self.look = look
        self._texture, self._teeth = paint(P.load(), look, mesh.TEXTURE_SCALE)
        upper, lower = _rims()
        self._rim_s = _along(upper), _along(lower)
        self._controls = np.concatenate([
            upper, lower, P.array(P.UPPER_OUTER), P.array(P.LOWER_OUTER), P.array(P.LEFT_UPPER_LID),
            P.array(P.RIGHT_UPPER_LID), P.array(P.BROWS), P.array(P.CHIN), P.array(P.OVAL),
            P.array(P.CHEEKS), P.array(P.NOSE), P.array(P.LEFT_LOWER_LID),
            P.array(P.RIGHT_LOWER_LID), mesh.anchors(),
        ])  # fmt: skip
        self._vertices, self._triangles = mesh.triangulate(upper, lower)
        self._follow = mesh.multiquadric(self._controls, self._vertices)
        self._rim = np.arange(len(upper)), len(upper) + np.arange(len(lower))

    def draw(self, pose: Pose) -> U8:
        """Return the face in this pose: RGB [320, 320, 3]."""
        moved = self._vertices + self._follow @ self._displacement(pose)
        placed = self._place(moved, pose)
        image = mesh.warp(self._texture, self._vertices, placed, self._triangles)
        image = self._mouth(image, pose, placed[self._rim[0]], placed[self._rim[1]])
        return np.ascontiguousarray(image[:, ::-1]) if self.look.mirrored else image

    def _displacement(self, pose: Pose) -> F64:
        """Where the pose moves each control point: [C, 2], in the order of ``_controls``."""
        upper_s, lower_s = self._rim_s
        n_upper, n_lower = len(upper_s), len(lower_s)
        upper, lower = self._controls[:n_upper], self._controls[n_upper : n_upper + n_lower]
        gap = MAX_GAP * pose.opening
        rise, drop = 0.2 * gap, 0.8 * gap
        width = _MOUTH_WIDTH * (1 + 0.11 * pose.width) * (1 - 0.16 * pose.rounding)
        width *= 1 - 0.05 * pose.opening
        sharpness, pout = 0.8 - 0.3 * pose.rounding, 0.3 * pose.rounding
        outer_upper, outer_lower = P.array(P.UPPER_OUTER), P.array(P.LOWER_OUTER)
        moves = [
            _lip(upper_s, width, -rise, sharpness) - upper,
            _lip(lower_s, width, drop, sharpness) - lower,
            _outer_lip(
                outer_upper, upper, width=width, lift=-0.9 * rise - pout, sharpness=sharpness
            ),
            _outer_lip(outer_lower, lower, width=width, lift=0.9 * drop + pout, sharpness=0.5),
            pose.blink * _lid_drop(P.LEFT_UPPER_LID, P.LEFT_LOWER_LID),
            pose.blink * _lid_drop(P.RIGHT_UPPER_LID, P.RIGHT_LOWER_LID),
            np.tile(-2.5 * pose.brow * P.DOWN, (len(P.BROWS), 1)),
            np.outer(drop * np.array([0.85, 0.8, 0.75]), P.DOWN),
            np.outer(drop * _JAW, P.DOWN),
        ]
        cheeks = np.zeros((len(P.CHEEKS), 2))
        cheeks[0] = 0.8 * P.ACROSS + 0.8 * P.DOWN  # the smile of the portrait relaxes
        cheeks[1] = -0.8 * P.ACROSS + 0.8 * P.DOWN
        moves.append(cheeks)
        moving = np.concatenate(moves)
        return np.concatenate([moving, np.zeros((len(self._controls) - len(moving), 2))])

    def _place(self, points: F64, pose: Pose) -> F64:
        """Apply the speaker's shape and the motion of the head."""
        weight = head_weight(points)[:, None]
        depth = np.exp(-0.5 * (((points - P.NOSE[1]) / [34.0, 40.0]) ** 2).sum(1))[:, None]
        points = reshape(points, self.look)
        cosine, sine = pose.scale * np.cos(pose.roll), pose.scale * np.sin(pose.roll)
        turned = (points - P.NECK) @ np.array([[cosine, sine], [-sine, cosine]]) + P.NECK
        turned = turned + np.array([pose.shift_x, pose.shift_y])
        turned = turned + depth * (pose.yaw * P.ACROSS + pose.pitch * P.DOWN)
        placed: F64 = points + weight * (turned - points)
        return placed

    def _mouth(self, image: U8, pose: Pose, upper: F64, lower: F64) -> U8:
        """Fill the slit between the lips: cavity, tongue, upper teeth, and the lips' shadow."""
        import cv2

        upper, lower = mesh.to_image(upper), mesh.to_image(lower)
        ring = np.concatenate([upper, lower[::-1]])
        # All of it happens in a window around the mouth.
        corner = np.maximum(np.floor(ring.min(0)).astype(int) - 12, 0)
        end = np.minimum(np.ceil(ring.max(0)).astype(int) + 12, mesh.IMAGE_SIZE)
        width, height = (int(side) for side in end - corner)
        window = np.s_[corner[1] : end[1], corner[0] : end[0]]
        upper, lower, ring = upper - corner, lower - corner, ring - corner
        mask = mesh.coverage(ring, height, width)
        # Where the lips meet there is a fine shadow.
        line = np.zeros((height, width), np.uint8)
        middle = (upper[1:-1] + mesh.resample(lower, len(upper) - 2)) / 2
        cv2.polylines(line, [mesh.fixed(middle)], False, 255, 1, cv2.LINE_AA, mesh.SHIFT)
        crease = 0.45 * cv2.GaussianBlur(line, (0, 0), 0.9).astype(np.float32) / 255
        lips = image[window].astype(np.float32) * (1 - crease)[..., None]

        cavity = np.empty_like(lips)
        cavity[:] = (42, 16, 15)
        low, high = lower.mean(0), upper.mean(0)
        axes = 0.30 * float(np.ptp(ring[:, 0])), 0.38 * max(float(low[1] - high[1]), 0.1)
        centre = float(low[0]), float(low[1]) + 0.15 * axes[1]
        tongue = np.zeros((height, width), np.float32)
        cv2.ellipse(tongue, (centre, (2 * axes[0], 2 * axes[1]), 0.0), 1.0, -1)
        tongue = cv2.GaussianBlur(tongue, (0, 0), 2.5)[..., None]
        cavity += tongue * (np.array([125, 58, 56], np.float32) - cavity)
        # The teeth belong to the skull: they move with the head and not with the lips.
        skull = P.MOUTH + np.array([[0, 0], [8, 0], [0, 8]]) @ np.stack([P.ACROSS, P.DOWN])
        placed = (mesh.to_image(self._place(skull, pose)) - corner).astype(np.float32)
        source = ((skull - P.ORIGIN + [0, 1.5]) * mesh.TEXTURE_SCALE - 0.5).astype(np.float32)
        matrix = cv2.getAffineTransform(source, placed)
        teeth = cv2.warpAffine(self._teeth, matrix, (width, height)).astype(np.float32)
        # Little light enters a mouth that is hardly open.
        teeth[..., :3] *= 0.4 + 0.6 * min(1.0, pose.opening / 0.6)
        cavity += teeth[..., 3:] / 255 * (teeth[..., :3] - cavity)
        # Deep inside it is dark: shade by the distance from the lips.
        cavity *= (0.55 + 0.45 * cv2.GaussianBlur(mask, (0, 0), 3.0))[..., None]
        lips += cv2.GaussianBlur(mask, (0, 0), 0.6)[..., None] * (cavity - lips)
        image[window] = np.clip(np.rint(lips), 0, 255).astype(np.uint8)
        return image


# Share of the lower lip's drop that each point of the oval takes: the jaw's angle none.
_JAW_SHARES = {152: 0.72, 148: 0.7, 377: 0.7, 176: 0.62, 400: 0.62, 149: 0.5, 378: 0.5,
               150: 0.36, 379: 0.36, 136: 0.2, 365: 0.2, 172: 0.08, 397: 0.08}  # fmt: skip
_JAW = np.array([_JAW_SHARES.get(i, 0.0) for i in P.OVAL])


def head_weight(points: F64) -> F64:
    """1 on the head, falling to 0 on shoulders and background: [n]."""
    centre, radii = P.HEAD
    distance = np.sqrt((((points - centre) / radii) ** 2).sum(1))
    t = np.clip((distance - 0.95) / 0.4, 0.0, 1.0)
    return np.asarray(1.0 - t * t * (3.0 - 2.0 * t))


def _rims() -> tuple[F64, F64]:
    """Inner rims of upper lip (with both corners) and lower lip (without): [n, 2] each."""
    upper = mesh.resample(P.UPPER_INNER, _RIM_POINTS)
    lower = np.concatenate([P.UPPER_INNER[:1], P.LOWER_INNER, P.UPPER_INNER[-1:]])
    return upper, mesh.resample(lower, _RIM_POINTS)[1:-1]


def _along(rim: F64) -> F64:
    """Position along the mouth of each rim point: -1 at the left corner to 1 at the right one."""
    ends = P.UPPER_INNER[[0, -1]] @ P.ACROSS
    return np.asarray(2 * (rim @ P.ACROSS - ends[0]) / (ends[1] - ends[0]) - 1)


def _lip(s: F64, width: float, lift: float, sharpness: float) -> F64:
    """Rim of a lip at positions ``s``: a closed line, lifted by ``lift`` in its middle."""
    profile = np.clip(1 - s**2, 0.0, 1.0) ** sharpness
    down = -1.0 * s**2 + lift * profile
    return np.asarray(P.MOUTH + np.outer(s * width / 2, P.ACROSS) + np.outer(down, P.DOWN))


def _outer_lip(outer: F64, inner: F64, *, width: float, lift: float, sharpness: float) -> F64:
    """Displacement of the outer rim: follows the inner one's closing, then lifts with the lip."""
    ends = outer @ P.ACROSS
    s = np.clip(_along(outer), -1.1, 1.1)
    source_width = np.ptp(P.UPPER_INNER[[0, -1]] @ P.ACROSS)
    across = (s * source_width / 2) * (width / source_width - 1)
    centre = (P.UPPER_INNER[0] + P.UPPER_INNER[-1]) @ P.ACROSS / 2
    across += P.MOUTH @ P.ACROSS - centre
    order = np.argsort(inner @ P.ACROSS)
    line = -1.0 * np.clip(s, -1, 1) ** 2 + P.MOUTH @ P.DOWN
    closing = line - np.interp(ends, (inner @ P.ACROSS)[order], (inner @ P.DOWN)[order])
    corner = np.clip(np.abs(s), 0, 1) ** 4
    profile = np.clip(1 - np.clip(s, -1, 1) ** 2, 0.0, 1.0) ** sharpness
    down = closing * (0.4 + 0.6 * corner) + lift * profile
    return np.asarray(np.outer(across, P.ACROSS) + np.outer(down, P.DOWN))


def _lid_drop(upper: P.Points, lower: P.Points) -> F64:
    """Displacement that lays the upper lid on the lower one: [n, 2]."""
    lid = P.array(upper)
    ends = P.array(upper)[[0, -1]]
    curve = np.concatenate([ends[:1], P.array(lower), ends[1:]])
    y = np.interp(lid @ P.ACROSS, curve @ P.ACROSS, curve @ P.DOWN)
    return np.outer(np.maximum(0.97 * (y - lid @ P.DOWN), 0.0), P.DOWN)
