"""The settings of everything that computes values, as one tree, and which modalities there are.

A worker, the fingerprint and a test in one process all use the same tree. Each section lives
beside its owner.
"""

from typing import Any, Literal

from pydantic import Field

from actors.action_units import ActionUnitsConfig
from actors.audio import AudioConfig
from actors.decode import DecodeConfig
from actors.descriptors import DESCRIPTOR_FIELDS, DescriptorsConfig
from actors.faces import FACE_FIELDS, FacesConfig
from actors.landmarks import LandmarksConfig
from actors.lowlevel import LowLevelConfig
from actors.sync import SyncConfig
from actors.visual import VisualConfig
from model.config import Config

Modality = Literal[
    "visual", "audio", "landmarks", "action_units", "sync", "lowlevel", "descriptors"
]
MODALITIES: tuple[Modality, ...] = (
    "visual",
    "audio",
    "landmarks",
    "action_units",
    "sync",
    "lowlevel",
    "descriptors",
)
STRUCT_FIELDS = {"descriptors": DESCRIPTOR_FIELDS, "faces": FACE_FIELDS}

# Settings that steer speed, place and limits, and change no value beyond the stated tolerances.
NEUTRAL = frozenset(
    {
        "decode.ffmpeg_threads",
        "decode.max_duration_s",
        "decode.max_pixels",
        "decode.max_streams",
        "prepare",
        # Where weights lie does not count: their digest enters the fingerprint beside the settings.
        "faces.detector.weights",
        *(
            f"{name}.{key}"
            for name in ("visual", "audio", "sync")
            for key in ("weights", "compile")
        ),
        "audio.batch_clips",
        "audio.max_seconds",
        "audio.revision",
        "sync.batch_windows",
        "visual.batch_frames",
    }
)


class PrepareConfig(Config):
    """How the first half of extraction uses memory."""

    cache_mib: int = Field(
        512,
        ge=0,
        description="MiB of pixels around faces kept between the two passes over a video",
    )
    source_mib: int = Field(
        512,
        ge=0,
        description="MiB of decoded pictures, and as many of prepared ones, that are kept of a "
        "source while its variants (column `artefacts` of a manifest) are made; a 6 s clip of "
        "512 x 512 needs 113 and 45. A longer source is decoded again for each variant",
    )
    remember_mib: int = Field(
        256,
        ge=0,
        description="MiB of features that are kept for inputs that come again, as the untouched "
        "stream of variants does (column `source` of a manifest)",
    )


class FeaturesConfig(Config):
    """Everything that computes values."""

    modalities: tuple[Modality, ...] = Field(
        MODALITIES, description="slim mode: extract only these"
    )
    decode: DecodeConfig = DecodeConfig()
    prepare: PrepareConfig = PrepareConfig()
    faces: FacesConfig = FacesConfig()
    landmarks: LandmarksConfig = LandmarksConfig()
    visual: VisualConfig = VisualConfig()
    audio: AudioConfig = AudioConfig()
    action_units: ActionUnitsConfig = ActionUnitsConfig()
    sync: SyncConfig = SyncConfig()
    lowlevel: LowLevelConfig = LowLevelConfig()
    descriptors: DescriptorsConfig = DescriptorsConfig()

    def value_settings(self) -> dict[str, Any]:
        """Return the settings that change values; they enter the fingerprint.

        Sections of modalities that are left out do not count, nor where weights lie: their digest
        does.
        """
        tree = self.model_dump(mode="json")
        tree["modalities"] = sorted(self.modalities)
        for name in MODALITIES:
            if name not in self.modalities and name != "landmarks":
                tree.pop(name, None)
        if {"lowlevel", "descriptors"} & set(self.modalities):
            tree.setdefault("visual", {})["crop"] = self.visual.crop  # whose sharpness they measure
        return _without(tree, NEUTRAL)

    @property
    def left_out(self) -> frozenset[str]:
        """Stored columns that a slim run does not write."""
        gone: set[str] = {name for name in MODALITIES if name not in self.modalities}
        if "sync" in gone:
            gone.add("sync_reason")
        return frozenset(gone)


def _without(tree: dict[str, Any], keys: frozenset[str], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in tree.items()
        if f"{prefix}{key}" not in keys
    }
