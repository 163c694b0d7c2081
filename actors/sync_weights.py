"""SyncNet's weights: published by path, or seeded; and the synthetic clip that calibrates those."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from actors.types import SAMPLE_RATE, U8
from actors.weights import (
    LoadedWeights,
    WeightsError,
    calibrate_batch_norm,
    load_state,
    seeded_init,
)

if TYPE_CHECKING:
    from model.syncnet import SyncNet

GET: Final = (
    "SyncNet has no entry in a model hub: download syncnet_v2.model with download_model.sh of "
    "https://github.com/joonson/syncnet_python and give its path or URI (sync.weights=PATH)."
)
SEEDED_HEAD: Final = 0.2  # brings distances of seeded networks to about 10, as of trained ones


def load_syncnet(source: str) -> "tuple[SyncNet, LoadedWeights]":
    """Return the network in evaluation mode with the weights of ``source``.

    Raises:
        WeightsError: They cannot be had, or are not SyncNet's.
    """
    from model.syncnet import SyncNet

    loaded = load_state(source, what="SyncNet", setting="sync.weights", get=GET)
    net = SyncNet()
    if loaded.state is None:
        _seed(net)
    else:
        try:
            net.load_public_state(loaded.state)
        except ValueError as error:
            raise WeightsError(f"SyncNet: {loaded.source}: {error}. {GET}") from error
    return net.eval(), loaded


def _seed(net: "SyncNet") -> None:
    """Give random weights and calibrated batch norms: a demonstration without any sense of sync."""
    import torch
    from torch import nn

    from model.mfcc import mfcc
    from model.syncnet import audio_windows

    seeded_init(net, "SyncNet")
    with torch.no_grad():
        for head in (net.netfcaud, net.netfclip):
            last = head[3]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(SEEDED_HEAD)
    clips = np.stack([synthetic_face(8, seed)[..., ::-1] for seed in range(4)])
    lips = torch.from_numpy(clips.astype(np.float32)).permute(0, 4, 1, 2, 3)  # [4, 3, 8, 224, 224]
    columns = mfcc(synthetic_voice(3.0, seed=0)).astype(np.float32)
    calibrate_batch_norm(net, [(lips, audio_windows(torch.from_numpy(columns), 64))])


def synthetic_face(frames: int, seed: int) -> U8:
    """Draw a face-coloured blob whose mouth opens and closes: [frames, 224, 224, 3] RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:224j, -1:1:224j]
    skin, back = rng.uniform(110, 220, 3), rng.uniform(20, 200, 3)
    mouth, eye = rng.uniform(40, 90, 3), rng.uniform(10, 60, 3)
    pictures = np.empty((frames, 224, 224, 3), np.uint8)
    for t in range(frames):
        dx, dy = 0.05 * np.sin(0.4 * t + seed), 0.03 * np.cos(0.3 * t + seed)
        opening = 0.06 + 0.12 * np.sin(0.7 * t + seed) ** 2
        u, v = x - dx, y - dy
        picture = back * (1 + 0.3 * v[..., None])
        for colour, cx, cy, rx, ry in (
            (skin, 0.0, -0.1, 0.62, 0.85),
            (eye, -0.25, -0.3, 0.10, 0.05),
            (eye, 0.25, -0.3, 0.10, 0.05),
            (mouth, 0.0, 0.3, 0.25, opening),
        ):
            inside = 1 / (1 + np.exp(20 * (np.hypot((u - cx) / rx, (v - cy) / ry) - 1)))
            picture = picture + inside[..., None] * (colour * (1 + 0.2 * u[..., None]) - picture)
        noisy = picture + rng.normal(0, 4, picture.shape)
        pictures[t] = np.clip(noisy, 0, 255).astype(np.uint8)
    return pictures


def synthetic_voice(seconds: float, seed: int) -> NDArray[np.int16]:
    """Make a speech-like sound: harmonics with a gliding pitch, syllables, noise. 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / SAMPLE_RATE
    timbre = 1 + 0.8 * np.sin(2 * np.pi * 1.3 * t)
    voice = sum(np.sin(k * phase) * k ** (-timbre) for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * t + seed), 0.02, 1)
    return (voice * syllables * 3000 + rng.normal(0, 40, len(t))).astype(np.int16)
