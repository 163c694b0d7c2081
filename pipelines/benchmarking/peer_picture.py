"""Peers that judge pictures: the mean over pictures spread over the video. Higher is better."""

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actors.types import FPS, U8

if TYPE_CHECKING:
    from typing import Any

PICTURES = 8  # of a video


def ssim(video: str, clean: str) -> float:
    """Structural similarity with the clean pictures, on grey ones (package ``scikit-image``)."""
    library: Any = importlib.import_module("skimage.metrics")
    pairs = zip(_pictures(clean), _pictures(video), strict=True)
    return float(
        np.mean(
            [library.structural_similarity(_grey(a), _grey(b), data_range=255.0) for a, b in pairs]
        )
    )


def sharpness(video: str) -> float:
    """1 less the blur of Crete et al. (package ``scikit-image``)."""
    library: Any = importlib.import_module("skimage.measure")
    return float(np.mean([1 - library.blur_effect(_grey(p)) for p in _pictures(video)]))


def brisque(video: str) -> float:
    """Minus BRISQUE, so that higher is better (packages ``brisque``, ``libsvm-official``)."""
    model = _brisque()
    return -float(np.mean([float(model.score(p)) for p in _pictures(video)]))


@functools.cache
def _brisque() -> "Any":
    library: Any = importlib.import_module("brisque")

    class Model(library.BRISQUE):
        """Its fit returns arrays of one number, which NumPy 2.4 takes for no number."""

        def asymmetric_generalized_gaussian_fit(self, x: "Any") -> tuple[float, ...]:
            fit = super().asymmetric_generalized_gaussian_fit(x)
            return tuple(float(np.squeeze(value)) for value in fit)

    return Model(url=False)


def _grey(picture: U8) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Luma of ITU-R BT.601, [H, W] in [0, 255]."""
    grey: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = picture @ np.array(
        [0.299, 0.587, 0.114]
    )
    return grey


@functools.lru_cache(maxsize=2)
def _read(path: str, _stamp: tuple[int, int]) -> tuple[U8, ...]:
    from actors.decode import DecodeConfig, VideoReader

    with Path(path).open("rb") as file, VideoReader(file, DecodeConfig(), "video") as reader:
        count = max(round(reader.info.duration_s * FPS), 1)
        wanted = set(np.linspace(0, count - 1, min(PICTURES, count)).round().astype(int).tolist())
        found: dict[int, U8] = {}
        for frame in reader.frames():
            for place in wanted.intersection(frame.grid):
                if frame.image is None:
                    raise ValueError("a picture cannot be decoded")
                found[place] = frame.image
    if not found:
        raise ValueError("the video has no pictures")
    return tuple(found[place] for place in sorted(found))


def _pictures(path: str) -> tuple[U8, ...]:
    """Return up to eight pictures at even distances of the 25 fps grid, RGB."""
    state = Path(path).stat()
    return _read(path, (state.st_ino, state.st_mtime_ns))
