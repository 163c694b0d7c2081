"""From stored clips to what the network reads: excerpts to learn from, whole clips to judge."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actors.sync import window_mask
from model.sync_training_config import AugmentationConfig
from pipelines.sync_training.data import Clip

if TYPE_CHECKING:
    from torch import Tensor

    from model.sync_judging import Embedded
    from model.syncnet import SyncNet

HOP = 640  # samples of a picture frame
TAIL = 240  # samples beyond the last frame that its MFCC columns reach into
BATCH = 16  # windows of a clip that are embedded at once when it is judged


def excerpt(
    clip: Clip, windows: int, rng: np.random.Generator, change: AugmentationConfig
) -> "tuple[Tensor, Tensor]":
    """Draw consecutive windows whose frames all have a face, and change them at random.

    Args:
        clip: With such a run of windows.
        windows: n.
        rng: Of this excerpt alone.
        change: How much is changed.

    Returns:
        Lips [3, n + 4, face, face] BGR, 0..255; sound [n, 13, 20].
    """
    import torch

    from model.mfcc import mfcc
    from model.sync_training import changed_picture, changed_sound
    from model.syncnet import WINDOW, audio_windows, window_count

    present = clip.index >= 0
    whole = window_mask(present, window_count(len(present), len(clip.sound)))
    runs = np.lib.stride_tricks.sliding_window_view(whole, windows).all(axis=1)
    start = int(rng.choice(np.flatnonzero(runs)))
    stop = start + windows + WINDOW - 1
    frames = torch.from_numpy(clip.crops[clip.index[start:stop]][..., ::-1].copy())  # BGR
    lips = changed_picture(frames.permute(3, 0, 1, 2).float(), rng, change)
    samples = changed_sound(clip.sound[start * HOP : stop * HOP + TAIL], rng, change)
    # MFCC columns are local but for one sample, so those of the excerpt are those of the clip.
    sound = audio_windows(torch.from_numpy(mfcc(samples)).float(), windows)[:, 0]
    return lips, sound


def embedded(net: "SyncNet", clip: Clip, device: Any) -> "Embedded":
    """Take a whole clip through the network as it is, window by window.

    Returns:
        Its embeddings on the CPU; windows without a face are zero and masked.
    """
    import torch

    from model.mfcc import mfcc
    from model.sync_judging import Embedded
    from model.syncnet import WINDOW, audio_windows, window_count

    present = clip.index >= 0
    mask = window_mask(present, window_count(len(present), len(clip.sound)))
    lips = torch.zeros(len(mask), net.embedding)
    cut = audio_windows(torch.from_numpy(mfcc(clip.sound)).float(), len(mask))
    net.eval()
    with torch.inference_mode():
        for start in range(0, len(mask), BATCH):
            stop = min(start + BATCH, len(mask))
            if not mask[start:stop].any():
                continue
            frames = torch.from_numpy(
                clip.crops[clip.index[start : stop + WINDOW - 1]][..., ::-1].copy()
            )
            picture = frames.permute(3, 0, 1, 2)[None].float().to(device)
            lips[start:stop] = net.forward_lip(picture)[0].cpu()
        lips[torch.from_numpy(~mask)] = 0
        sounds = torch.cat(
            [net.forward_aud(part.to(device)).cpu() for part in torch.split(cut, 4 * BATCH)]
        )
    return Embedded(lips, sounds, mask)


def spread(clips: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most ``most`` clips, evenly spread."""
    if len(clips) <= most:
        return clips
    return clips[np.linspace(0, len(clips) - 1, most).round().astype(np.int64)]
