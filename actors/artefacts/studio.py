"""Where variants are made: one source after another, each decoded once for all of its variants."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, cast

from actors.artefacts.artefact import FacePoints
from actors.artefacts.chain import Chain, Step
from actors.artefacts.face_points import FaceFinder
from actors.artefacts.lossless import LosslessWriter
from actors.artefacts.source import DamagedReader, SourceVideo
from actors.decode import VideoReader
from actors.errors import VideoError
from actors.features import FeaturesConfig
from actors.pixels import Clock
from actors.types import F32, MIB, U8, Timings

OpenFile = Callable[[str], BinaryIO]


@dataclass(slots=True)
class _Open:
    """The source at hand."""

    key: str
    file: BinaryIO
    video: SourceVideo


class Studio:
    """Reads sources as if chains of artefacts had been done to them; in one thread.

    Args:
        config: Settings of decoding, of faces and of memory are used.
        open_file: Opens sources, and donors of sound, by URI.
    """

    def __init__(self, config: FeaturesConfig, open_file: OpenFile) -> None:
        self._config, self._open_file = config, open_file
        self._budget = config.prepare.source_mib * MIB
        self._source: _Open | None = None
        self._finder: FaceFinder | None = None  # made when an artefact asks for a face
        self._donor: tuple[str, F32] | None = None  # URI and sound of the latest
        self._refused: tuple[str, VideoError] | None = None  # the latest: no pass for each variant

    def read(
        self,
        uri: str,
        key: str,
        chain: Chain,
        timings: Timings,
        beat: Callable[[str], None] = lambda _: None,
    ) -> DamagedReader:
        """Return a reader of a source with a chain; good until another source is read.

        Args:
            uri: Of the source.
            key: Tells one source, and version of it, from another.
            chain: What is done.
            timings: Seconds of ``decode`` and ``faces`` are added here.
            beat: Called with the stage's name whenever something moved.

        Raises:
            VideoError: The source cannot be decoded, or is not read at 25 frames a second.
        """

        def find(pictures: Iterable[U8]) -> FacePoints:
            if self._finder is None:
                self._finder = FaceFinder(self._config.faces, self._config.landmarks)
            with Clock(timings)("faces"):
                return self._finder(pictures)

        return DamagedReader(self._opened(uri, key, timings, beat), chain, find, self._sound_of)

    def close(self) -> None:
        """Free the source at hand."""
        if self._source is not None:
            self._source.video.close()
            self._source.file.close()
            self._source = None

    def _opened(
        self, uri: str, key: str, timings: Timings, beat: Callable[[str], None]
    ) -> SourceVideo:
        if self._source is not None and self._source.key == key:
            return self._source.video
        if self._refused is not None and self._refused[0] == key:
            raise self._refused[1].with_traceback(None)
        self.close()
        if self._config.decode.policy != "windows":
            raise VideoError(
                "decode",
                "virtual_needs_windows",
                "Artefacts are applied at decode under decode.policy=windows only; make a stored "
                "corpus for the policy `whole`.",
            )
        file = self._open_file(uri)
        try:
            reader = VideoReader(file, self._config.decode, key, lambda: beat("decode"))
            with Clock(timings)("decode"):
                video = SourceVideo(reader, self._budget, lambda: beat("decode"))
        except BaseException as error:
            file.close()
            if isinstance(error, VideoError) and not error.transient:
                self._refused = (key, error)
            raise
        self._source = _Open(key, file, video)
        return video

    def _sound_of(self, step: Step) -> F32:
        uri = cast(str, step.donor)  # steps without a need are not asked
        if self._donor is None or self._donor[0] != uri:
            self._donor = (uri, self._donated(uri))
        return self._donor[1]

    def _donated(self, uri: str) -> F32:
        # The query of a link may be a signature.
        name = (uri.partition("?")[0] if "://" in uri else uri).rpartition("/")[2]
        told = f"The donor of the sound, {name},"
        try:
            with (
                self._open_file(uri) as file,
                VideoReader(file, self._config.decode, name) as reader,
            ):
                sound = reader.sound()
        except VideoError as error:
            raise VideoError(
                "sound",
                "bad_donor",
                f"{told} cannot be read: {error}",
                transient=error.transient,
            ) from error
        if sound is None or not sound.samples.any():
            lack = "has no sound" if sound is None else "has nothing but silence"
            raise VideoError("sound", "bad_donor", f"{told} {lack}.")
        return sound.samples


def write_video(reader: DamagedReader, file: BinaryIO) -> None:
    """Write what a reader gives without loss; a reader of that file gives the same.

    Args:
        reader: Of a source with a chain.
        file: Writable and seekable, at position 0.

    Raises:
        VideoError: The chain cannot be done to the source.
    """
    sound = reader.sound()
    size = (reader.info.height, reader.info.width)
    with LosslessWriter(file, size, reader.times, reader.duration_s, sound) as writer:
        for frame in reader.frames():
            assert frame.image is not None  # sources with broken pictures are refused
            writer.write(frame.image)
