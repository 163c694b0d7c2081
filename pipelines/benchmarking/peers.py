"""Measures of others that stand beside ours: libraries that run without downloads.

Each is a function of a video (and of the clean one) in ``peer_sound.py`` or ``peer_picture.py``,
run like any callable. Their packages are optional; nothing else needs them.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Final

from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.uris import display_text

_SOUND: Final = "pipelines.benchmarking.peer_sound"
_PICTURE: Final = "pipelines.benchmarking.peer_picture"


@dataclass(frozen=True, slots=True)
class Peer:
    """A measure of somebody else.

    Attributes:
        title: Its name in reports.
        target: The function.
        modules: What it imports beside the project's own packages.
        packages: What to install for that.
        speaks_for: Tasks and groups of artefacts that it claims; outside of them its score should
            stay.
        scale: Its scale as it stands here: higher is always better.
        full_reference: It compares with the clean video.
    """

    title: str
    target: str
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    speaks_for: tuple[str, ...]
    scale: str
    full_reference: bool


PEERS: Final[dict[str, Peer]] = {
    "pesq": Peer(
        "PESQ, wide band (ITU-T P.862.2)",
        f"{_SOUND}:pesq",
        ("pesq",),
        ("pesq",),
        ("audio_quality",),
        "MOS-LQO from 1.04 to 4.64",
        True,
    ),
    "stoi": Peer(
        "STOI (Taal et al. 2011)",
        f"{_SOUND}:stoi",
        ("pystoi",),
        ("pystoi",),
        ("audio_quality",),
        "intelligibility, up to 1",
        True,
    ),
    "dnsmos": Peer(
        "DNSMOS P.835, overall (Reddy et al. 2022)",
        f"{_SOUND}:dnsmos",
        ("speechmos", "onnxruntime"),
        ("speechmos", "onnxruntime"),
        ("audio_quality",),
        "MOS from 1 to 5",
        False,
    ),
    "brisque": Peer(
        "BRISQUE (Mittal et al. 2012), sign turned",
        f"{_PICTURE}:brisque",
        ("brisque", "libsvm"),
        ("brisque", "libsvm-official"),
        ("picture",),
        "minus BRISQUE: 0 is best, below -100 is bad",
        False,
    ),
    "sharpness": Peer(
        "scikit-image blur_effect (Crete et al. 2007), as 1 - blur",
        f"{_PICTURE}:sharpness",
        ("skimage",),
        ("scikit-image",),
        ("picture",),
        "from 0, blurred, to 1, sharp",
        False,
    ),
    "ssim": Peer(
        "SSIM (Wang et al. 2004), scikit-image",
        f"{_PICTURE}:ssim",
        ("skimage",),
        ("scikit-image",),
        ("picture", "face"),
        "structural similarity, up to 1",
        True,
    ),
}


def find_peer(name: str) -> Peer:
    """Return a peer that can run here.

    Raises:
        BenchmarkInputError: It is unknown, or a package is missing: how to install it.
    """
    peer = PEERS.get(name)
    if peer is None:
        raise BenchmarkInputError(f"--peer {display_text(name, 40)}: known are {', '.join(PEERS)}")
    if missing(peer):
        raise BenchmarkInputError(
            f"--peer {name} needs {' and '.join(peer.packages)}: pip install --no-deps "
            f"{' '.join(peer.packages)} (optional; no other part of TalkMOS needs it)"
        )
    return peer


def missing(peer: Peer) -> list[str]:
    """Return the modules of a peer that are not installed."""
    return [name for name in peer.modules if importlib.util.find_spec(name) is None]


def versions(peer: Peer) -> dict[str, str]:
    """Return the installed versions of a peer's packages."""
    found = {}
    for name in peer.packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # unpacked by hand
            found[name] = "unknown"
    return found
