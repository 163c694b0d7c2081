"""Mathematics of learning SyncNet from video alone: what is compared, how it is judged.

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
from torch import Tensor, nn

from model.sync_measures import Mode, sync_distances, sync_measures
from model.sync_training_config import (
    LARGEST_SHIFT,
    AugmentationConfig,
    CurriculumConfig,
    SyncLossConfig,
)
from model.syncnet import SyncNet

NOISE_DB = (5.0, 35.0)  # below the sound's level
Bool = NDArray[np.bool_]


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


# --- judging


@dataclass(frozen=True, slots=True)
class Embedded:
    """A clip through the network: both streams in sync, window by window."""

    lips: Tensor  # [n, D]
    sounds: Tensor  # [n, D]
    mask: Bool  # [n] the lip window is real

    def __len__(self) -> int:
        return len(self.mask)

    def part(self, start: int, stop: int) -> "Embedded":
        """Return some of the windows."""
        return Embedded(self.lips[start:stop], self.sounds[start:stop], self.mask[start:stop])

    def pieces(self, windows: int) -> "list[Embedded]":
        """Cut into pieces of ``windows`` windows; what is left over is dropped."""
        return [self.part(i, i + windows) for i in range(0, len(self) - windows + 1, windows)]

    def shifted(self, offset: int) -> "Embedded":
        """Return the clip as it would be if the sound led by ``offset`` frames.

        Exact where MFCC windows are whole: a frame is four columns. Windows without a partner are
        cut off, so the clip is shorter by ``offset``.
        """
        count = len(self) - abs(offset)
        lips, sounds = max(-offset, 0), max(offset, 0)
        return Embedded(
            self.lips[lips : lips + count],
            self.sounds[sounds : sounds + count],
            self.mask[lips : lips + count],
        )

    def placed(self, origin: Tensor) -> "Embedded":
        """Return the clip with the zero vector of the space at ``origin`` [D]."""
        lips, sounds = (x - origin.to(x) for x in (self.lips, self.sounds))
        return Embedded(lips, sounds, self.mask)

    def with_sound_of(self, other: "Embedded") -> "Embedded":
        """Return these lips with another clip's sound, as long as the shorter of the two."""
        count = min(len(self), len(other))
        return Embedded(self.lips[:count], other.sounds[:count], self.mask[:count])


@dataclass(frozen=True, slots=True)
class Judged:
    """How well offsets are found and foreign sound is told.

    Attributes:
        exact: Share of injected offsets that are found exactly.
        foreign: Share of trials in which sound of its own gives more confidence than a foreign one.
        confidence: Median LSE-C in sync.
        distance: Median LSE-D in sync.
        sharpness: Median of LSE-C / (LSE-C + LSE-D) in sync: scale-free, 0..1.
        offsets: Number of injected offsets.
        trials: Number of trials with foreign sound.
    """

    exact: float
    foreign: float
    confidence: float
    distance: float
    sharpness: float
    offsets: int
    trials: int

    @property
    def share(self) -> float:
        """The mean of both shares: what validation goes by."""
        return (self.exact + self.foreign) / 2


def judge(
    clips: "list[Embedded]",
    foreigners: "list[list[Embedded]]",
    largest: int,
    mode: Mode = "parity",
) -> Judged:
    """Inject offsets and foreign sounds, and measure as the product does.

    Args:
        clips: In sync; each longer than ``largest`` windows, some of them real.
        foreigners: For each clip the clips that lend it their sound.
        largest: Offsets of -largest..largest are injected.
        mode: See :mod:`model.sync_measures`.

    Raises:
        ValueError: There are no clips, or no foreigners at all.
    """
    if not clips or not any(foreigners):
        raise ValueError("no clips to judge")
    found: list[bool] = []
    told: list[bool] = []
    own = []
    for clip, others in zip(clips, foreigners, strict=True):
        for offset in range(-largest, largest + 1):
            moved = clip.shifted(offset)
            if not moved.mask.any():
                continue
            got = sync_measures(moved.lips, moved.sounds, mask=moved.mask, mode=mode)
            found.append(got.offset == offset)
            if offset == 0:
                own.append((got.confidence, got.min_distance))
        for other in others:
            mixed = clip.with_sound_of(other)
            same = clip.part(0, len(mixed))
            if not mixed.mask.any():
                continue
            a = sync_measures(same.lips, same.sounds, mask=same.mask, mode=mode)
            b = sync_measures(mixed.lips, mixed.sounds, mask=mixed.mask, mode=mode)
            told.append(a.confidence > b.confidence)
    if not found or not told:
        raise ValueError("no window of any clip has a face")
    figures = np.array(own)  # [clips, 2]
    return Judged(
        exact=float(np.mean(found)),
        foreign=float(np.mean(told)),
        confidence=float(np.median(figures[:, 0])),
        distance=float(np.median(figures[:, 1])),
        sharpness=float(np.median(figures[:, 0] / figures.sum(axis=1).clip(1e-12))),
        offsets=len(found),
        trials=len(told),
    )


# --- after training


def median_confidence(clips: "list[Embedded]", mode: Mode = "parity") -> float:
    """Return the median LSE-C of clips in sync; 0 when none has a real window."""
    found = [
        sync_measures(c.lips, c.sounds, mask=c.mask, mode=mode).confidence
        for c in clips
        if c.mask.any()
    ]
    return float(np.median(found)) if found else 0.0


def place_heads(net: SyncNet, origin: Tensor, scale: float) -> None:
    """Move the zero vector of the space to ``origin`` and multiply all distances by ``scale``.

    Distances between lips and sound are otherwise unchanged: both heads move alike.

    Args:
        net: Changed in place.
        origin: [D] in the space as it was.
        scale: Above 0.
    """
    with torch.no_grad():
        for head in (net.netfclip, net.netfcaud):
            last = head[3]
            assert isinstance(last, nn.Linear)
            last.bias.sub_(origin.to(last.bias)).mul_(scale)
            last.weight.mul_(scale)


def neutral_origin(clips: "list[Embedded]") -> Tensor:
    """Find a place for the zero vector that is as far from lips as the sound of another moment.

    In the parity mode zero vectors stand for sound beyond the ends of a clip. Where they are nearer
    than wrong sound, large shifts look good; where they are farther, they look bad, and in short
    clips that can hide the true offset. The place is the mean of all lips, moved along the
    direction in which embeddings vary least until the mean distance of lips from it is that of
    wrong sound at the measured shifts.

    Returns:
        [D] float64.
    """
    lips = torch.cat([c.lips[torch.from_numpy(c.mask)] for c in clips]).double()
    sounds = torch.cat([c.sounds for c in clips]).double()
    means = [
        sync_distances(c.lips, c.sounds, mask=c.mask, mode="masked") for c in clips
    ]  # [31, n] each
    every = np.concatenate(means, axis=1)
    every[LARGEST_SHIFT - 2 : LARGEST_SHIFT + 3] = np.nan  # near the true one
    wanted = float(np.nanmean(every))
    centre = lips.mean(dim=0)
    joint = torch.cat([lips, sounds]) - centre
    _, vectors = torch.linalg.eigh(joint.T @ joint / len(joint))
    least = vectors[:, 0]

    def reached(height: float) -> float:
        return float(torch.linalg.vector_norm(lips - (centre + height * least), dim=1).mean())

    if reached(0.0) >= wanted:
        return centre
    low, high = 0.0, wanted
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < wanted else (low, middle)
    found: Tensor = centre + high * least
    return found
