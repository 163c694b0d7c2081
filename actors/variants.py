"""Preparing the variants of one source after another: what they share is done once.

The variants of a source differ by artefacts that are applied at decode. The source is decoded once,
its face is found once (:mod:`actors.artefacts.studio`), and a variant whose pictures are clean
takes the prepared pictures of the variant before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from actors.artefacts.apply import picture_steps
from actors.artefacts.chain import parse_chain
from actors.artefacts.studio import OpenFile, Studio
from actors.features import FeaturesConfig
from actors.prepare import PreparedVideo, Preparer, sound_of
from actors.types import MIB, ClipSpan, Row, Sound, Timings

SOUND_COLUMNS = frozenset({"waveform", "audio_mask", "has_sound"})


@dataclass(frozen=True, slots=True)
class _Pictures:
    """The clean pictures of a source, prepared."""

    key: str
    video: PreparedVideo  # its rows are used up
    clips: list[tuple[ClipSpan, Row]]  # without sound


class VariantPreparer:
    """Prepares virtual variants: sources with a chain of artefacts.

    Args:
        preparer: Does the work; one object in one thread.
        config: All settings of extraction.
        open_file: Opens sources, and donors of sound, by URI.
    """

    def __init__(self, preparer: Preparer, config: FeaturesConfig, open_file: OpenFile) -> None:
        self._preparer, self._config = preparer, config
        self._budget = config.prepare.source_mib * MIB
        self._studio = Studio(config, open_file)
        self._pictures: _Pictures | None = None

    def open(
        self, uri: str, key: str, artefacts: str, timings: Timings, beat: Callable[[str], None]
    ) -> PreparedVideo:
        """Make the first pass over a variant; the second happens while ``rows`` is consumed.

        Args:
            uri: Of the source, which stays open until another one or :meth:`close` comes.
            key: Tells one source, and version of it, from another.
            artefacts: The chain, as text.
            timings: Seconds are added here; those of artefacts count as ``decode``.
            beat: Called with the stage's name whenever something moved.

        Raises:
            VideoError: The video cannot be processed.
        """
        chain = parse_chain(artefacts)
        reader = self._studio.read(uri, key, chain, timings, beat)
        if picture_steps(chain):
            return self._preparer.read(reader, timings, beat)
        kept = self._pictures
        if kept is not None and kept.key == key:
            return replace(kept.video, rows=self._with_sound(kept, reader.sound()))
        return self._keeping(key, self._preparer.read(reader, timings, beat))

    def close(self) -> None:
        """Free the source at hand."""
        self._studio.close()
        self._pictures = None

    def _keeping(self, key: str, video: PreparedVideo) -> PreparedVideo:
        """Keep the prepared pictures of a video while its rows pass, if they fit."""

        def passing() -> Iterator[Row]:
            self._pictures = None
            clips: list[tuple[ClipSpan, Row]] = []
            held = 0
            for span, row in zip(video.spans, video.rows, strict=True):
                pictures = {k: v for k, v in row.items() if k not in SOUND_COLUMNS}
                held += sum(v.nbytes for v in pictures.values() if isinstance(v, np.ndarray))
                if held <= self._budget:
                    clips.append((span, pictures))
                else:
                    clips.clear()
                yield row
            if held <= self._budget:
                self._pictures = _Pictures(key, video, clips)

        return replace(video, rows=passing())

    def _with_sound(self, kept: _Pictures, sound: Sound | None) -> Iterator[Row]:
        policy = self._config.decode.policy
        for span, pictures in kept.clips:
            waveform, mask = sound_of(span, sound, pictures["frame_times"], policy)
            heard = {"waveform": waveform, "audio_mask": mask, "has_sound": bool(mask.any())}
            yield {**pictures, **heard}
