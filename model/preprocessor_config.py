"""Settings of the preprocessor, and which mask guards which columns of a stream (SPEC section 5).

Free of torch, so that a driver can compose the section and a fitting worker can use the masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from model.config import Config

MaskName = Literal["frame", "face", "audio"]

# Cumulative explained variance that the paper's dimensions are expected to reach.
EXPECTED_VARIANCE: Final[Mapping[str, float]] = {"visual": 0.95, "audio": 0.95, "landmarks": 0.85}


class PreprocessorConfig(Config):
    """What the preprocessor does to the raw streams."""

    visual: int = Field(100, ge=1, description="principal components of `visual`")
    audio: int = Field(200, ge=1, description="principal components of `audio`")
    landmarks: int = Field(50, ge=1, description="principal components of `landmarks`")
    winsorise: FiniteFloat | None = Field(
        None,
        gt=0,
        description="clip each dimension at its quartiles -+ this many interquartile ranges of the "
        "training values; none: no clipping",
    )
    faceless: Literal["median", "zeros"] = Field(
        "median",
        description="real frames without a face in visual, landmarks, action units and the lips of "
        "lowlevel. median: missing, left out of fitting and filled with the median; zeros: frames "
        "of zeros like any other (the paper)",
    )
    mask_padding: bool = Field(
        True,
        description="padded, broken and black frames take no part; false: they are frames of zeros "
        "like any other (the paper)",
    )
    aux_log: bool = Field(
        False,
        description="auxiliary values whose ratios count (sharpness, flicker, speeds; the table is "
        "LOG_FLOORS of actors/descriptors.py) are standardised as logarithms",
    )
    whiten: bool = Field(False, description="scale principal components to unit variance")

    def components(self, stream: str) -> int | None:
        """Return the number of principal components of ``stream``; None: it is not reduced."""
        counts = {"visual": self.visual, "audio": self.audio, "landmarks": self.landmarks}
        return counts.get(stream)


@dataclass(frozen=True, slots=True)
class ColumnGroup:
    """Adjacent columns of a stream that hold data at the same frames."""

    start: int
    stop: int
    mask: MaskName


@dataclass(frozen=True, slots=True)
class StreamLayout:
    """A raw stream: how wide it is and where its columns hold data.

    Attributes:
        name: One of :data:`model.batch.STREAMS`.
        groups: Cover the columns 0..width without gaps, in order.
    """

    name: str
    groups: tuple[ColumnGroup, ...]

    def __post_init__(self) -> None:
        """Refuse groups that leave columns out or claim them twice."""
        at = 0
        for group in self.groups:
            if group.start != at or group.stop <= group.start:
                raise ValueError(f"{self.name}: the column groups leave a gap or overlap at {at}")
            at = group.stop
        if not self.groups:
            raise ValueError(f"{self.name}: there are no columns")

    @property
    def width(self) -> int:
        """Raw width."""
        return self.groups[-1].stop


def stream_layout(
    name: str, width: int, lowlevel: Sequence[tuple[int, MaskName]] = ()
) -> StreamLayout:
    """Lay out a stream.

    Args:
        name: One of :data:`model.batch.STREAMS`.
        width: Its raw width.
        lowlevel: For `lowlevel` only: (columns, mask) from the first column on.

    Raises:
        ValueError: The name is unknown or the groups do not cover the width.
    """
    masks: dict[str, MaskName] = {
        "visual": "face",
        "audio": "audio",
        "landmarks": "face",
        "action_units": "face",
    }
    if name in masks:
        return StreamLayout(name, (ColumnGroup(0, width, masks[name]),))
    if name != "lowlevel":
        raise ValueError(f"{name}: there is no such stream; known: {', '.join(masks)}, lowlevel")
    groups, at = [], 0
    for columns, mask in lowlevel:
        groups.append(ColumnGroup(at, at + columns, mask))
        at += columns
    layout = StreamLayout(name, tuple(groups))
    if layout.width != width:
        raise ValueError(f"lowlevel: {width} columns, but the masks are known for {layout.width}")
    return layout


Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """Masks of a batch of clips, each [B, T] bool, and the questions asked of them.

    Attributes:
        frame: The frame is real.
        face: The main face was found.
        audio: There is sound at the frame's instant.
        config: Settings that decide about padded and faceless frames.
    """

    frame: Bool
    face: Bool
    audio: Bool
    config: PreprocessorConfig

    def frames(self) -> Bool:
        """Steps that take part at all: the frame mask of the reduced batch."""
        return self.frame if self.config.mask_padding else np.ones_like(self.frame)

    def _stored(self, mask: MaskName) -> Bool:
        """Steps at which the extractors stored data under ``mask``."""
        found = {"frame": self.frame, "face": self.face, "audio": self.audio}[mask]
        result: Bool = found & self.frame
        return result

    def zeros(self, mask: MaskName) -> Bool:
        """Steps whose columns under ``mask`` are read as zeros whatever is stored."""
        result = np.zeros_like(self.frame) if self.config.mask_padding else ~self.frame
        if mask == "face" and self.config.faceless == "zeros":
            result = result | (self.frame & ~self.face)
        return result

    def valid(self, mask: MaskName) -> Bool:
        """Steps whose columns under ``mask`` hold values; at the others they are missing."""
        return self._stored(mask) | self.zeros(mask)

    def present(self, stream: str) -> Bool:
        """Steps at which a clip has ``stream``, see :class:`model.batch.ClipBatch`.

        A clip without any face has no visual, landmarks or action units, one without sound no
        audio. Faceless frames of a clip that has a face are present: they are filled.
        """
        if stream == "lowlevel":
            return self.frames()
        if stream == "audio":
            has = self._stored("audio").any(axis=1, keepdims=True)
            result: Bool = self.valid("audio") & has
        else:
            result = self.frames() & self._stored("face").any(axis=1, keepdims=True)
        return result

    def fitted(self, stream: str, mask: MaskName) -> Bool:
        """Steps whose columns of ``stream`` under ``mask`` take part in fitting."""
        return self.valid(mask) & self.present(stream)
