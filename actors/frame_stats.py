"""Cheap statistics of whole decoded frames, taken while the video is decoded.

They see the picture as the viewer does, before any crop, so they carry what crops lose: freezes,
flicker, blocking, blur. One call a distinct source frame; positions of the 25 fps grid that show
the same source frame share its statistics.
"""

from typing import Any, Final

import numpy as np

from actors.types import F32, U8

FRAME_STATS: Final = (
    "luma_mean",  # 0..255, BT.601
    "luma_std",  # 0..255
    "difference",  # mean absolute difference to the previous frame, levels; NaN for the first
    "duplicate",  # 1: (nearly) identical to the previous frame, else 0; NaN for the first
    "blockiness",  # gradient on the 8x8 grid / gradient off it; 1 without blocking; NaN if flat
    "sharpness",  # variance of the Laplacian of the picture scaled to SCALED_WIDTH
    "cb_mean",  # -128..127, BT.601
    "cr_mean",  # -128..127
    "noise",  # standard deviation of the noise, levels; NaN where nearly all is black or white
)
STAT: Final = {name: i for i, name in enumerate(FRAME_STATS)}
SCALED_WIDTH: Final = 256

# A frame repeated by a generator or an editor comes out of the codec as (nearly) the same pixels,
# whereas even a still head moves some 1 % of the scaled picture by several levels.
_DUPLICATE_MEAN: Final = 0.1
_DUPLICATE_MAX: Final = 3
_FLAT_GRADIENT: Final = 0.05  # levels; below it the ratio of two gradients means nothing
_NOISE_KERNEL: Final = ((1, -2, 1), (-2, 4, -2), (1, -2, 1))
_NOISE_GAIN: Final = 6.0  # root of the sum of its squares
_NOISE_QUARTILE: Final = 0.31864  # a quarter of normal values of deviation 1 are nearer to 0
_CUT_OFF: Final = 4  # levels: nearer to black or white, noise is cut off
_NOISE_LEAST: Final = 100  # pixels
_STRIP: Final = 10  # rows
_STRIP_PIXELS: Final = 2**17  # of a large picture, that many are enough


def blockiness(gray: U8) -> float:
    """Ratio of the mean absolute gradient across the edges of the 8x8 grid to that elsewhere.

    Block codecs leave steps at multiples of eight pixels; in a natural picture the grid is no
    special place, so the ratio is 1. Scaling or cropping after coding moves the grid and hides it
    from this measure.

    Args:
        gray: [H, W] luma.

    Returns:
        The mean of the horizontal and the vertical ratio; NaN when the picture is flat or smaller
        than 16 pixels.
    """
    import cv2

    height, width = gray.shape
    if height < 16 or width < 16:
        return float("nan")
    # Every third line is enough for a mean across; down a column whole rows are compared.
    across = cv2.reduce(
        cv2.absdiff(gray[::3, 1:], gray[::3, :-1]), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S
    )
    down = cv2.reduce(cv2.absdiff(gray[1:], gray[:-1]), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    ratios = []
    for profile, lines in ((across.ravel(), len(gray[::3])), (down.ravel(), width)):
        # profile[j] is the step from pixel j to j + 1, so steps into a block are at 7, 15, …
        on_grid = np.arange(1, profile.size + 1) % 8 == 0
        off = float(profile[~on_grid].mean())
        if off < _FLAT_GRADIENT * lines:
            return float("nan")
        ratios.append(float(profile[on_grid].mean()) / off)
    return sum(ratios) / 2


def laplacian_variance(gray: U8, mask: U8 | None = None) -> float:
    """Variance of the 3x3 Laplacian, the usual measure of sharpness (Pech-Pacheco et al., 2000).

    Args:
        gray: [H, W] luma.
        mask: [H, W] not 0 where it counts; None is everywhere.
    """
    import cv2

    _, std = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S), mask=mask)
    return float(std[0, 0]) ** 2


def noise_level(gray: U8) -> float:
    """Standard deviation of the noise between neighbouring pixels.

    The difference of two Laplacians hides whatever is linear around a pixel (Immerkær, Computer
    Vision and Image Understanding 64, 1996). Of its absolute values the lower quartile counts
    instead of the mean: it stems from the smoothest places, so texture takes part only where more
    than three quarters of the picture are texture. Grain coarser than a pixel reads as less.

    Args:
        gray: [H, W] luma.

    Returns:
        Levels; under 0.3 in what codecs have smoothed. NaN where too few pixels are neither black
        nor white.
    """
    import cv2

    height, width = gray.shape
    rows = min(_STRIP, height)
    strips = gray[: height // rows * rows].reshape(-1, rows, width)
    strips = strips[:: max(1, round(gray.size / _STRIP_PIXELS))]
    kernel = np.array(_NOISE_KERNEL, np.float32)
    filtered = cv2.filter2D(strips.reshape(-1, width), cv2.CV_16S, kernel).reshape(strips.shape)
    inner = (slice(None), slice(1, -1, 2), slice(1, -1, 2))
    seen = strips[inner]
    rest = np.abs(filtered[inner][(seen > _CUT_OFF) & (seen < 255 - _CUT_OFF)])
    if rest.size < _NOISE_LEAST:
        return float("nan")
    # Whole numbers stand for the half levels around them, so that the quartile has no steps.
    counts = np.bincount(rest)
    reached = np.cumsum(counts)
    wanted = rest.size / 4
    at = int(np.searchsorted(reached, wanted))
    share = (wanted - (reached[at] - counts[at])) / counts[at]
    quartile = at - 0.5 + share if at else 0.5 * share
    return float(quartile / (_NOISE_GAIN * _NOISE_QUARTILE))


def _scaled(gray: U8) -> U8:
    import cv2

    height, width = gray.shape
    size = (SCALED_WIDTH, max(8, round(height * SCALED_WIDTH / width)))
    if width >= 2 * SCALED_WIDTH:
        # Area averaging by an integer factor is vectorised, by a fraction it is not.
        factor = width // SCALED_WIDTH
        gray = cv2.resize(
            gray[: height // factor * factor, : width // factor * factor],
            (width // factor, height // factor),
            interpolation=cv2.INTER_AREA,
        )
    if gray.shape == (size[1], size[0]):
        return gray
    area = gray.shape[1] > SCALED_WIDTH
    result: U8 = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    return result


class FrameStatistics:
    """Statistics of the frames of one video, in order. Call :meth:`reset` before another video."""

    def __init__(self) -> None:
        self._previous: Any = None

    def reset(self) -> None:
        """Forget the previous frame."""
        self._previous = None

    def __call__(self, image: U8) -> F32:
        """Measure one frame.

        Args:
            image: RGB [H, W, 3].

        Returns:
            [len(FRAME_STATS)], in the order of FRAME_STATS.
        """
        import cv2

        gray: U8 = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        mean, std = cv2.meanStdDev(gray)
        red, green, blue, _ = cv2.mean(image)
        small = _scaled(gray)
        difference, duplicate = float("nan"), float("nan")
        if self._previous is not None and self._previous.shape == small.shape:
            change = cv2.absdiff(small, self._previous)
            difference = float(cv2.mean(change)[0])
            near = difference <= _DUPLICATE_MEAN and int(change.max()) <= _DUPLICATE_MAX
            duplicate = float(near)
        self._previous = small
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        return np.array(
            [
                mean[0, 0],
                std[0, 0],
                difference,
                duplicate,
                blockiness(gray),
                laplacian_variance(small),
                0.564 * (blue - luma),
                0.713 * (red - luma),
                noise_level(gray),
            ],
            dtype=np.float32,
        )
