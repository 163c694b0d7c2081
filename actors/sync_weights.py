"""SyncNet's weights: published or trained by jobs/train_sync.py, by path; or seeded.

And the synthetic clip that calibrates seeded ones.
"""

import json
from dataclasses import replace
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
    "https://github.com/joonson/syncnet_python and give its path or URI (sync.weights=PATH), or "
    "train one with jobs/train_sync.py."
)
FORMAT: Final = "talkmos-syncnet"  # in the metadata of what jobs/train_sync.py writes
FORMAT_VERSION: Final = "1"
MOST_WIDTH, MOST_EMBEDDING = 4, 4096  # as training allows: damage must not take all memory
AGAIN: Final = "Copy the file again, or train again with jobs/train_sync.py."
SCENES: Final = 16
SEEDED_HEAD: Final = 0.2  # brings distances of seeded networks to about 10, as of trained ones


def load_syncnet(source: str) -> "tuple[SyncNet, LoadedWeights]":
    """Return the network in evaluation mode with the weights of ``source``.

    A file of jobs/train_sync.py says itself how wide its network is and which faces it reads; any
    other must be the published network.

    Raises:
        WeightsError: They cannot be had, or are not SyncNet's.
    """
    import torch

    from model.syncnet import SyncNet

    loaded = load_state(source, what="SyncNet", setting="sync.weights", get=GET)
    if loaded.metadata.get("format") == FORMAT:
        return _trained(loaded)
    with torch.random.fork_rng(devices=[]):  # layers draw initial values that are not used here
        net = SyncNet()
    if loaded.state is None:
        _seed(net)
    else:
        try:
            net.load_public_state(loaded.state)
        except ValueError as error:
            raise WeightsError(f"SyncNet: {loaded.source}: {error}. {GET}") from error
    return net.eval(), loaded


def trained_metadata(
    net: "SyncNet", *, demonstration: bool, code_version: str, corpus: str
) -> dict[str, str]:
    """Return what a file of trained weights says of itself, for its safetensors metadata.

    Args:
        net: Whose weights they are.
        demonstration: The faces or voices of the training corpus are made up.
        code_version: Of TalkMOS.
        corpus: Digest of the videos it was trained on.
    """
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "network": json.dumps(
            {"width": net.width, "face": net.face, "embedding": net.embedding}, sort_keys=True
        ),
        "demonstration": json.dumps(demonstration),
        "code_version": code_version,
        "corpus": corpus,
    }


def _trained(loaded: LoadedWeights) -> "tuple[SyncNet, LoadedWeights]":
    """Load a file of jobs/train_sync.py."""
    import torch

    from model.syncnet import CROP, SyncNet

    metadata, where = loaded.metadata, f"SyncNet: {loaded.source}"
    if metadata.get("version") != FORMAT_VERSION:
        raise WeightsError(
            f"{where} has format version {metadata.get('version')!r}; this TalkMOS reads "
            f"{FORMAT_VERSION!r}. Use the TalkMOS that wrote it, or train again."
        )
    try:
        network = json.loads(metadata["network"])
        width, face, embedding = network["width"], network["face"], network["embedding"]
        demonstration = json.loads(metadata["demonstration"])
        sound = (
            isinstance(width, (int, float))
            and isinstance(face, int)
            and isinstance(embedding, int)
            and isinstance(demonstration, bool)
            and 0 < width <= MOST_WIDTH
            and 0 < embedding <= MOST_EMBEDDING
            and face <= CROP
        )
        if not sound:
            raise ValueError(f"no such network: {network}")
        with torch.random.fork_rng(devices=[]):
            net = SyncNet(width, face, embedding)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{where} says of itself what cannot be ({type(error).__name__}: {error}): its "
            f"metadata is damaged. {AGAIN}"
        ) from None
    state = {k: v.float() if v.is_floating_point() else v for k, v in (loaded.state or {}).items()}
    try:
        net.load_public_state(state)
    except ValueError as error:
        raise WeightsError(f"{where}: {error}. {AGAIN}") from error
    return net.eval(), replace(loaded, demonstration=demonstration)


def _seed(net: "SyncNet") -> None:
    """Give random weights and calibrated batch norms: a demonstration without any sense of sync."""
    import torch
    from torch import nn

    from model.mfcc import mfcc
    from model.syncnet import WINDOW, audio_windows

    seeded_init(net, "SyncNet")
    with torch.no_grad():
        for head in (net.netfcaud, net.netfclip):
            last = head[3]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(SEEDED_HEAD)
    # Many scenes of one window each and many voices: what differs between videos must be known.
    scenes = np.stack([synthetic_face(WINDOW, seed)[..., ::-1] for seed in range(SCENES)])
    lips = torch.from_numpy(scenes.astype(np.float32)).permute(0, 4, 1, 2, 3)
    voices = [mfcc(synthetic_voice(0.35, seed)).astype(np.float32) for seed in range(4 * SCENES)]
    sound = torch.cat([audio_windows(torch.from_numpy(voice), 4) for voice in voices])
    calibrate_batch_norm(net, [(lips, sound)])


def synthetic_face(frames: int, seed: int) -> U8:
    """Draw a moving face-coloured blob with a talking mouth: [frames, 224, 224, 3] RGB.

    A texture with the 1 / f spectrum of photographs makes its statistics those of real crops.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:224j, -1:1:224j]
    skin, back = rng.uniform(100, 220, 3), rng.uniform(20, 200, 3)
    mouth, eye = rng.uniform(30, 90, 3), rng.uniform(10, 60, 3)
    texture = _photographic_noise(rng)
    pictures = np.empty((frames, 224, 224, 3), np.uint8)
    for t in range(frames):
        dx, dy = 0.05 * np.sin(0.4 * t + seed), 0.03 * np.cos(0.3 * t + seed)
        opening = 0.06 + 0.12 * np.sin(0.7 * t + seed) ** 2
        u, v = x - dx, y - dy
        picture = np.broadcast_to(back, (224, 224, 3))
        for colour, cx, cy, rx, ry in (
            (skin, 0.0, -0.1, 0.62, 0.85),
            (eye, -0.25, -0.3, 0.10, 0.05),
            (eye, 0.25, -0.3, 0.10, 0.05),
            (mouth, 0.0, 0.3, 0.25, opening),
        ):
            inside = 1 / (1 + np.exp(20 * (np.hypot((u - cx) / rx, (v - cy) / ry) - 1)))
            picture = picture + inside[..., None] * (colour - picture)
        moved = np.roll(texture, (round(112 * dy), round(112 * dx)), (0, 1))
        noisy = picture + 40 * moved[..., None] + rng.normal(0, 3, picture.shape)
        pictures[t] = np.clip(noisy, 0, 255).astype(np.uint8)
    return pictures


def _photographic_noise(rng: np.random.Generator) -> NDArray[np.float64]:
    """Make noise [224, 224] of deviation 1 whose amplitude falls with frequency."""
    fy, fx = np.fft.fftfreq(224)[:, None], np.fft.fftfreq(224)
    spectrum = np.fft.fft2(rng.normal(size=(224, 224))) / np.maximum(np.hypot(fy, fx), 1 / 224)
    spectrum[0, 0] = 0
    noise = np.fft.ifft2(spectrum).real
    scaled: NDArray[np.float64] = noise / noise.std()
    return scaled


def synthetic_voice(seconds: float, seed: int) -> NDArray[np.int16]:
    """Make a speech-like sound, 16 kHz: syllables of gliding vowels between hissing consonants."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    start = rng.uniform(0, 2 * np.pi, 4)
    pitch = rng.uniform(90, 250) * (1 + 0.2 * np.sin(4.4 * t + start[0]))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    # Formants at which the harmonics resonate: centre, depth of the glide (Hz).
    glides = ((500, 250), (1500, 700), (2600, 400))
    formants = [f + d * np.sin((5 + i) * t + start[i + 1]) for i, (f, d) in enumerate(glides)]
    vowel = np.zeros(len(t))
    for k in range(1, 30):
        gain = sum(np.exp(-(((k * pitch - formant) / 150) ** 2)) for formant in formants)
        vowel += (0.05 + gain) * np.sin(k * phase) / np.sqrt(k)
    hiss = np.diff(rng.normal(size=len(t) + 1))
    syllable = np.sin(22 * t + start[0])
    sound = vowel * np.clip(syllable, 0, 1) + 0.15 * hiss * np.clip(-syllable - 0.5, 0, 1)
    level, floor = 10 ** rng.uniform(2.5, 3.9), 10 ** rng.uniform(-0.5, 1.5)
    samples = sound * level + rng.normal(0, floor, len(t))
    clipped: NDArray[np.int16] = np.clip(samples, -32768, 32767).astype(np.int16)
    return clipped
