"""Mathematics of learning SyncNet from video alone: what is compared with what, and its cost.

Lips and sound of the same 0.2 s are a true pair; the sound of another moment of the same video
(shifted) or of another video (foreign) makes a false one. Sources: Chung & Zisserman 2016, section
3 (contrastive loss on pairs in sync and out of it); Chung, Chung & Kang, "Perfect match" (ICASSP
2019), section 2 (cross-entropy over many false partners at once).

Legend: C clips of a step, n windows of each, D numbers in an embedding.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.sync_training_config import (
    LARGEST_SHIFT,
    AugmentationConfig,
    CurriculumConfig,
    SyncLossConfig,
)

NOISE_DB = (5.0, 35.0)  # below the sound's level


# --- curriculum


def least_shift(step: int, steps: int, config: CurriculumConfig) -> int:
    """Return the least shift, in windows, that counts as false in a step.

    Falls evenly from ``far`` to ``near`` over the first ``share`` of the run, and stays there.

    Args:
        step: From 0.
        steps: Of the whole run.
        config: Its course.
    """
    way = config.share * steps
    done = 1.0 if step >= way else step / way
    return config.far - math.floor(done * (config.far - config.near))


# --- pairs and losses


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which pairs [C n, C n] of a lip window (row) and a sound window (column) are compared.

    True partners lie on the diagonal.

    Attributes:
        shifted: False partners within a clip.
        foreign: False partners of another video.
    """

    shifted: Tensor  # bool
    foreign: Tensor  # bool

    @classmethod
    def of(cls, videos: Tensor, windows: int, least: int, *, foreign: bool) -> "Pairs":
        """Choose the false partners.

        Args:
            videos: [C] number of the video that each clip is of. Windows of two clips of one video
                are not compared: they may overlap, or say the same.
            windows: n.
            least: Least shift within a clip.
            foreign: Whether windows of other videos take part.
        """
        clips = len(videos)
        at = torch.arange(windows, device=videos.device)
        apart = (at[:, None] - at).abs()
        shifted = (apart >= least) & (apart <= LARGEST_SHIFT)  # [n, n]
        own = torch.eye(clips, dtype=torch.bool, device=videos.device)
        other = (videos[:, None] != videos) & foreign
        size = (clips, windows, clips, windows)
        side = clips * windows
        return cls(
            (own[:, None, :, None] & shifted[None, :, None, :]).expand(size).reshape(side, side),
            other[:, None, :, None].expand(size).reshape(side, side),
        )


def pair_distances(lips: Tensor, sounds: Tensor) -> Tensor:
    """Return the L2 distances of all pairs: [C, n, D] twice -> [C n, C n].

    In the inputs' precision and by differences: the shortcut over scalar products loses the digits
    of small distances.
    """
    return torch.cdist(
        lips.flatten(0, 1), sounds.flatten(0, 1), compute_mode="donot_use_mm_for_euclid_dist"
    )


def sync_loss(distances: Tensor, pairs: Pairs, config: SyncLossConfig) -> Tensor:
    """Return what is minimised: the mean of the losses against shifted and against foreign windows.

    They are apart because there are many more foreign windows, and a face and a voice tell most of
    them from the true one: together, a network may stop there and never hear the words.

    Args:
        distances: [C n, C n] from :func:`pair_distances`.
        pairs: Which of them count.
        config: ``contrast``: mean over the windows of -log(e_true / (e_true + sum of e_false)) with
            e = exp(-d / temperature) or exp(-d^2 / temperature), over rows, and with ``both_ways``
            averaged with the same over columns; a window without a false partner costs nothing.
            ``margin``: half the mean d^2 of true pairs + half the mean max(margin - d, 0)^2 of
            false ones (Chung & Zisserman 2016, equation 1, both kinds weighing the same).
    """
    loss = _margin_loss if config.kind == "margin" else _contrast_loss
    kinds = [kind for kind in (pairs.shifted, pairs.foreign) if kind.any()]
    if not kinds:
        return distances.sum() * 0
    return torch.stack([loss(distances, kind, config) for kind in kinds]).mean()


def _margin_loss(distances: Tensor, false: Tensor, config: SyncLossConfig) -> Tensor:
    short = (config.margin - distances[false]).clamp_min(0).square()
    return (distances.diagonal().square().mean() + short.mean()) / 2


def _contrast_loss(distances: Tensor, false: Tensor, config: SyncLossConfig) -> Tensor:
    energy = distances.square() if config.distance == "squared" else distances
    energy = energy / config.temperature
    counted = false | torch.eye(len(false), dtype=torch.bool, device=distances.device)
    logits = torch.where(counted, -energy, -torch.inf)
    own = energy.diagonal()
    loss = (torch.logsumexp(logits, dim=1) + own).mean()
    if config.both_ways:
        loss = (loss + (torch.logsumexp(logits, dim=0) + own).mean()) / 2
    return loss


# --- augmentation


def changed_picture(frames: Tensor, rng: np.random.Generator, config: AugmentationConfig) -> Tensor:
    """Change all frames of an excerpt alike: place, size, colour.

    Args:
        frames: [3, T, H, W] float, 0..255.
        rng: Seven draws, whatever the settings.
        config: How much.

    Returns:
        [3, T, H, W], within 0..255.
    """
    mirrored = rng.random() < config.flip
    zoom = 1 + config.zoom * rng.uniform(-1, 1)
    move = config.move * rng.uniform(-1, 1, 2) * 2  # the grid spans -1..1
    turn = math.radians(config.turn) * rng.uniform(-1, 1)
    contrast = 1 + config.contrast * rng.uniform(-1, 1)
    shade = config.brightness * rng.uniform(-1, 1, 3)
    if mirrored or config.zoom or config.move or config.turn:
        cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
        side = -1.0 if mirrored else 1.0
        way = torch.tensor([[side * cos, -side * sin, move[0]], [sin, cos, move[1]]])
        count, height, width = frames.shape[1:]
        way = way.to(frames).expand(count, 2, 3)
        grid = F.affine_grid(way, [count, 3, height, width], align_corners=False)
        frames = F.grid_sample(
            frames.transpose(0, 1), grid, padding_mode="border", align_corners=False
        ).transpose(0, 1)
    offset = torch.from_numpy(shade).to(frames)[:, None, None, None] + 128 * (1 - contrast)
    return (frames * contrast + offset).clamp_(0, 255)


def changed_sound(
    samples: NDArray[np.int16], rng: np.random.Generator, config: AugmentationConfig
) -> NDArray[np.int16]:
    """Change level and noise of an excerpt: [n] -> [n]; silence stays silence.

    Args:
        samples: 16 kHz.
        rng: The same number of draws for the same length, whatever the settings.
        config: How much.
    """
    gain = 10 ** (config.gain * rng.uniform(-1, 1) / 20)
    noisy = rng.random() < config.noise
    below = rng.uniform(*NOISE_DB)
    noise = rng.standard_normal(len(samples))
    sound = samples.astype(np.float64)
    level = math.sqrt(float(np.mean(sound**2))) if len(sound) else 0.0
    if noisy:
        sound = sound + noise * level * 10 ** (-below / 20)
    changed: NDArray[np.int16] = np.clip(np.round(sound * gain), -32768, 32767).astype(np.int16)
    return changed
