"""A clean video that is decoded once for all of its variants, and readers that damage it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.apply import (
    damaged_pictures,
    damaged_sound,
    needs_face,
    picture_steps,
    sound_steps,
)
from actors.artefacts.artefact import FacePoints, PictureScene
from actors.artefacts.chain import Chain, Step
from actors.decode import VideoReader
from actors.errors import VideoError
from actors.picture import is_black
from actors.types import F32, SAMPLE_RATE, U8, Frame, MediaInfo, Sound

FindFace = Callable[[Iterable[U8]], FacePoints]


class SourceVideo:
    """A clean video: its frames once through, its sound, and its pictures while they fit.

    Args:
        reader: Entered here, closed by :meth:`close`; policy ``windows``.
        budget: Bytes of pictures that are kept. A video with more is decoded again for each
            variant.
        beat: Called for each picture that is read: a supervisor sees life.

    Raises:
        VideoError: It cannot be decoded; or ``broken_source``: a picture of it cannot, so it is no
            clean video.
    """

    def __init__(
        self, reader: VideoReader, budget: int, beat: Callable[[], None] = lambda: None
    ) -> None:
        self._reader, self._beat = reader, beat
        self._face: FacePoints | None = None
        self._frames: list[Frame] = []
        self.kept = True  # the frames hold their images
        try:
            reader.__enter__()
            held = 0
            for frame in reader.frames():
                if frame.image is None:
                    raise VideoError(
                        "decode",
                        "broken_source",
                        f"The picture at {frame.time_s:.2f} s cannot be decoded: artefacts need a "
                        "whole clean video. Leave it out, or encode it anew.",
                    )
                held += frame.image.nbytes
                if self.kept and held > budget:
                    self.kept = False
                    self._frames = [replace(f, image=None) for f in self._frames]
                self._frames.append(frame if self.kept else replace(frame, image=None))
            self.sound = reader.sound()
        except BaseException:
            reader.close()
            raise
        self.info: MediaInfo = reader.info
        self.duration_s = reader.duration_s
        self.times = np.array([frame.time_s for frame in self._frames])  # [n] seconds

    def close(self) -> None:
        """Free FFmpeg's memory."""
        self._reader.close()

    def frames(self) -> Iterator[Frame]:
        """Yield the clean frames, with their images."""
        return iter(self._frames) if self.kept else self._reader.frames()

    def frames_without_images(self) -> Iterator[Frame]:
        """Yield what is known of the frames beside their images."""
        return iter(self._frames)

    def __iter__(self) -> Iterator[U8]:
        """Yield the clean pictures; may be called again."""
        for frame in self.frames():
            assert frame.image is not None  # seen in the first pass
            self._beat()
            yield frame.image

    def face(self, find: FindFace) -> FacePoints:
        """Return where the face is, found when it is asked for first."""
        if self._face is None:
            self._face = find(self)
        return self._face


class DamagedReader:
    """Reads a clean video as if a chain of artefacts had been done to it.

    Args:
        source: Open; it is not closed here.
        chain: What is done.
        find_face: Finds the face in clean pictures, for chains that need it.
        donor: Gives the sound of a step's donor, [m] 16 kHz mono.

    Attributes:
        info: Of the clean video.
        black_frames: All-black frames, in the latest pass.
        broken_frames: Always 0.
    """

    def __init__(
        self,
        source: SourceVideo,
        chain: Chain,
        find_face: FindFace,
        donor: Callable[[Step], F32],
    ) -> None:
        self._source, self._chain = source, chain
        self._find_face, self._donor = find_face, donor
        self.info = source.info
        self.black_frames = 0
        self.broken_frames = 0

    def __enter__(self) -> Any:
        self._need_sound()  # before a pass over the pictures, which would be in vain
        return self

    def close(self) -> None:
        """Nothing to free: the source stays open for the next variant."""

    @property
    def duration_s(self) -> float:
        """Seconds of picture."""
        return self._source.duration_s

    @property
    def times(self) -> NDArray[np.float64]:
        """When each picture begins, seconds, [n]."""
        return self._source.times

    def frames(self) -> Iterator[Frame]:
        """Yield the frames with damaged pictures.

        Raises:
            VideoError: The chain needs a face, and there is none.
        """
        source = self._source
        self.black_frames = 0
        if not picture_steps(self._chain):
            for frame in source.frames():
                self.black_frames += frame.black
                yield frame
            return
        face = source.face(self._find_face) if needs_face(self._chain) else None
        scene = PictureScene(0, source.times, (source.info.height, source.info.width))
        pictures = damaged_pictures(source, self._chain, scene, face)
        for frame, image in zip(source.frames_without_images(), pictures, strict=True):
            black = is_black(image)
            self.black_frames += black
            yield replace(frame, image=image, black=black)

    def sound(self) -> Sound | None:
        """Return the damaged sound; the span that came from the file stays as it was.

        Raises:
            VideoError: ``no_sound``, ``silent_sound`` (the damage would not be heard, and labels
                say that it is there), or the donor cannot be read.
        """
        self._need_sound()
        clean = self._source.sound
        if clean is None:
            return None
        # Silence that only fills up missing sound stays silence.
        there = slice(round(clean.start_s * SAMPLE_RATE), round(clean.end_s * SAMPLE_RATE))
        samples = clean.samples.copy()
        # Adding 0 leaves no negative zeros: a reader of a file gives none either.
        samples[there] = damaged_sound(clean.samples[there], self._chain, self._donor) + 0.0
        return replace(clean, samples=samples)

    def _need_sound(self) -> None:
        clean = self._source.sound
        steps = ", ".join(step.type for step in sound_steps(self._chain))
        if steps and clean is None:
            raise VideoError(
                "sound", "no_sound", f"The source has no sound that {steps} could act on."
            )
        if steps and clean is not None and not clean.samples.any():
            raise VideoError(
                "sound", "silent_sound", f"The source's sound is silence: {steps} changes nothing."
            )
