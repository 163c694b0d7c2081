"""LSE-D, LSE-C and offset from SyncNet's embeddings.

Source: Chung & Zisserman 2016, section 4, with the details of joonson/syncnet_python; LSE-D and
LSE-C are the names of Prajwal et al., "A lip sync expert is all you need" (2020).

Lip window i is compared with the sound windows i - 15 .. i + 15; entry j of the 31 shifts is sound
window i + j - 15 and stands for the offset 15 - j: **a positive offset means that the sound leads
the picture**. One frame is 40 ms. Two modes differ at the ends of a clip:

- ``parity``: the published tool. Zero vectors stand for sound beyond the ends, so the measures
  depend on the clip's length. Numbers of papers are of this kind.
- ``masked``: a shift averages only over pairs that exist, so length matters no more.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Mode = Literal["parity", "masked"]

VSHIFT = 15  # frames, each way
EPS = 1e-6  # added to every difference, as torch.pairwise_distance does
SMOOTHING = 9  # windows of the median filter over the confidence of each window


@dataclass(frozen=True, slots=True)
class SyncMeasures:
    """What SyncNet says about a clip. Shifts and offset are in frames of 40 ms."""

    offset: int  # > 0: the sound leads the picture
    min_distance: float  # LSE-D, >= 0: lower is better
    confidence: float  # LSE-C, >= 0: higher is better
    distances: NDArray[
        np.float64
    ]  # [31] mean per shift, NaN without a pair; entry j: offset 15 - j
    per_window: NDArray[np.float64]  # [n] confidence of each lip window, NaN without a pair

    @property
    def margin(self) -> float:
        """How much larger the mean distance of the second best shift is; 0 without a second."""
        best = np.sort(self.distances)[:2]  # NaN last
        return float(np.nan_to_num(best[-1] - best[0]))


def sync_distances(
    lip: Tensor,
    sound: Tensor,
    vshift: int = VSHIFT,
    mask: NDArray[np.bool_] | None = None,
    mode: Mode = "parity",
) -> NDArray[np.float64]:
    """Measure each lip window against the sound windows around it.

    Args:
        lip: [n, D] embeddings of the lip windows.
        sound: [m, D] embeddings of the sound windows.
        vshift: Largest shift V in windows.
        mask: [n] True where the lip window is real; the others take no part in either mode.
        mode: ``parity`` or ``masked``, see the module.

    Returns:
        [2 V + 1, n] L2 distances (every difference + 1e-6); NaN where a pair takes no part.
    """
    count, real = lip.shape[0], sound.shape[0]
    lip, sound = (
        lip.double(),
        sound.double(),
    )  # sums over 1024 squares, at no cost beside the network
    # Zero vectors before, behind, and behind again where the picture is longer than the sound.
    padded = F.pad(sound, (0, 0, vshift, vshift + max(count - real, 0)))
    rows = [
        torch.linalg.vector_norm(lip - padded[j : j + count] + EPS, dim=1)
        for j in range(2 * vshift + 1)
    ]
    distances: NDArray[np.float64] = torch.stack(rows).cpu().numpy()
    if mode == "masked":
        partner = np.arange(count) + np.arange(-vshift, vshift + 1)[:, None]
        distances[(partner < 0) | (partner >= real)] = np.nan
    if mask is not None:
        distances[:, ~mask] = np.nan
    return distances


def sync_measures(
    lip: Tensor,
    sound: Tensor,
    vshift: int = VSHIFT,
    mask: NDArray[np.bool_] | None = None,
    mode: Mode = "parity",
) -> SyncMeasures:
    """Compute offset, LSE-D and LSE-C; arguments as for :func:`sync_distances`.

    The mean over the windows comes first; then LSE-D is the minimum over the shifts and LSE-C the
    median minus the minimum (of an even number the lower middle, as torch.median). Shifts without
    any pair take no part.

    Raises:
        ValueError: No pair of windows at all.
    """
    pairs = sync_distances(lip, sound, vshift, mask, mode)
    taking_part = ~np.isnan(pairs)
    counts = taking_part.sum(axis=1)
    if not counts.any():
        raise ValueError("no pair of lip and sound windows to measure")
    means = np.full(len(counts), np.nan)
    np.divide(np.nansum(pairs, axis=1), counts, out=means, where=counts > 0)
    best = int(np.nanargmin(means))
    median = _lower_median(means[counts > 0])
    per_window = np.full(pairs.shape[1], np.nan)
    at_best = taking_part[best]
    per_window[at_best] = _median_filter(median - pairs[best, at_best])
    return SyncMeasures(
        offset=vshift - best,
        min_distance=float(means[best]),
        confidence=median - float(means[best]),
        distances=means,
        per_window=per_window,
    )


def sync_score(confidence: float) -> float:
    """Map LSE-C onto [0, 5]: 5 / (1 + exp(-10 (c - 0.5))) with c = clip(confidence / 10, 0, 1)."""
    c = min(max(confidence / 10.0, 0.0), 1.0)
    return 5.0 / (1.0 + math.exp(-10.0 * (c - 0.5)))


def _lower_median(values: NDArray[np.float64]) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def _median_filter(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running median over 9 values, zeros beyond the ends (scipy.signal.medfilt)."""
    padded = np.pad(values, SMOOTHING // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, SMOOTHING)
    filtered: NDArray[np.float64] = np.median(windows, axis=1)
    return filtered
