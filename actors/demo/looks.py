"""Speakers out of one portrait: shape of the face and colours of skin, hair and background."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.demo import portrait as P
from actors.types import U8

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Gains = tuple[float, float, float]  # factors on red, green and blue


@dataclass(frozen=True, slots=True)
class Look:
    """Shape (0 = as photographed, > 0 = larger, about -0.2 to 0.2) and colours of a speaker."""

    width: float = 0.0  # of the whole head
    length: float = 0.0
    jaw: float = 0.0  # width of the lower face
    nose: float = 0.0
    eyes: float = 0.0
    mirrored: bool = False
    skin: Gains = (1.0, 1.0, 1.0)
    hair: Gains = (1.0, 1.0, 1.0)
    background: Gains = (1.0, 1.0, 1.0)


def reshape(points: F64, look: Look) -> F64:
    """Move points of the portrait [n, 2] to where the speaker has them; the surroundings stay."""
    centre, radii = P.HEAD
    offset = points - centre
    u, v = offset @ P.ACROSS, offset @ P.DOWN
    near = np.exp(-((((offset / radii) ** 2).sum(1) / 1.3) ** 3))
    lower = 1.0 / (1.0 + np.exp(-(v - 30.0) / 9.0))
    across = u * (look.width + look.jaw * lower)
    down = v * look.length
    moved = points + near[:, None] * (np.outer(across, P.ACROSS) + np.outer(down, P.DOWN))
    for middle, radius, amount in (
        (P.NOSE[1], (17.0, 20.0), look.nose),
        (P.LEFT_UPPER_LID[159], (15.0, 11.0), look.eyes),
        (P.RIGHT_UPPER_LID[386], (15.0, 11.0), look.eyes),
    ):
        local = points - np.asarray(middle)
        weight = np.exp(-((local / radius) ** 2).sum(1))
        moved = moved + amount * weight[:, None] * local
    return np.asarray(moved)


def paint(picture: U8, look: Look, scale: int) -> tuple[U8, U8]:
    """Return the shown square in the speaker's colours, enlarged, and its teeth.

    Returns:
        RGB [n, n, 3], and RGBA [n, n, 4] in which only the teeth are opaque; n = scale x 208.
    """
    import cv2

    x, y = P.ORIGIN.astype(int)
    size = int(P.SIZE)
    n = size * scale
    square = picture[y : y + size, x : x + size]
    large = cv2.resize(square, (n, n), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    soft = cv2.GaussianBlur(large, (0, 0), 0.8 * scale)
    large = np.clip(large + 0.3 * (large - soft), 0, 255)
    teeth = _teeth(large, scale)
    skin, hair, background = _regions(large, scale)
    painted = _matt_lips(large, scale)
    for mask, gains in ((skin, look.skin), (hair, look.hair), (background, look.background)):
        painted = painted * (1 + mask[..., None] * (np.asarray(gains, np.float32) - 1))
    return np.clip(np.rint(painted), 0, 255).astype(np.uint8), teeth


def _polygon(points: F64, n: int, scale: int) -> F32:
    import cv2

    mask = np.zeros((n, n), np.float32)
    cv2.fillPoly(mask, [np.rint((points - P.ORIGIN) * scale).astype(np.int32)], 1.0)
    return mask


def _matt_lips(image: F32, scale: int) -> F32:
    """Take the gloss off the lips: a face mesh reads a white highlight as teeth, hence as a gap."""
    import cv2

    result = image
    for outer, inner in (
        (P.array(P.UPPER_OUTER), P.UPPER_INNER),
        (P.array(P.LOWER_OUTER), P.LOWER_INNER),
    ):
        closed = np.concatenate([outer[outer[:, 0].argsort()], inner[::-1]])
        mask = _polygon(closed, len(image), scale)
        typical = np.median(image[mask > 0], axis=0) * [0.94, 0.82, 0.83]
        matt = typical + 0.3 * (image - typical)
        soft = cv2.GaussianBlur(mask, (0, 0), 0.5 * scale)[..., None]
        result = result + 0.9 * soft * (matt - result)
    return result.astype(np.float32)


def _regions(image: F32, scale: int) -> tuple[F32, F32, F32]:
    """Soft masks of skin, hair and background in the enlarged square: [n, n] each, sum <= 1."""
    import cv2

    n = len(image)
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1) / scale + P.ORIGIN
    centre, radii = P.HEAD
    head = (((grid - centre) / radii) ** 2).sum(-1)
    down = grid[..., 1]
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    oval = P.array(P.OVAL)
    middle = oval.mean(0)
    face = _polygon(middle + (oval - middle) * 1.03, n, scale) > 0
    inner = _polygon(middle + (oval - middle) * [0.84, 0.95], n, scale) > 0
    # The studio wall is bright and nearly grey; only right at the face does skin come as close.
    wall = (red + green + blue > 400) & (red - blue < 42) & ~face
    wall &= head > np.where(down > 110, 0.25, 0.8)
    wall = cv2.morphologyEx(wall.astype(np.uint8), cv2.MORPH_OPEN, _disc(9))
    wall = cv2.GaussianBlur(wall.astype(np.float32), (0, 0), 0.7 * scale)
    # Hair is darker or yellower than the forehead below it; ears and neck have the colour of skin.
    fleshy = (red > 120) & (red - blue > 28) & (down > 112) & (np.abs(grid[..., 0] - 224) < 56)
    fleshy = (fleshy & (down < 190)) | (face & (down > 76) & (blue > 115) & (red > 160))
    fleshy |= (inner & (down > 90)) | (face & (down > 122))
    fleshy = cv2.morphologyEx(fleshy.astype(np.uint8), cv2.MORPH_CLOSE, _disc(25))
    fleshy = cv2.morphologyEx(fleshy, cv2.MORPH_OPEN, _disc(19))
    flesh = cv2.GaussianBlur(fleshy.astype(np.float32), (0, 0), 1.0 * scale) * (1 - wall)
    hairy = ((head < 1.15) & (down < 137)).astype(np.float32)
    hair = cv2.GaussianBlur(hairy, (0, 0), 1.0 * scale) * (1 - wall) * (1 - flesh)
    return flesh.astype(np.float32), hair.astype(np.float32), wall.astype(np.float32)


def _disc(diameter: int) -> U8:
    import cv2

    disc: U8 = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return disc


def _teeth(image: F32, scale: int) -> U8:
    """Cut the teeth out of the portrait's smile: RGBA [n, n, 4]."""
    import cv2

    n = len(image)
    rim = np.concatenate([P.UPPER_INNER, P.LOWER_INNER[::-1]])
    middle = rim.mean(0)
    mask = _polygon(middle + (rim - middle) * [0.97, 0.92], n, scale)
    brightness = np.clip((image.min(axis=-1) - 70) / 70, 0, 1)
    alpha = cv2.GaussianBlur(mask * brightness, (0, 0), 0.5 * scale)
    return np.dstack([image * 0.85, 255 * alpha]).clip(0, 255).astype(np.uint8)
