"""Plain media containers, opened straight from a file object, and nothing else.

FFmpeg guesses a format from content and name, and some formats (HLS, DASH, concat, SDP, image
sequences, QuickTime references) name other files or URLs that it would then open. Here the format
is sniffed from the first bytes against an allow-list of containers that carry their own data,
and FFmpeg is told which one it is. It never sees a file name, and every attempt to open
something else is refused.
"""

import errno
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NoReturn

from actors.errors import Stage, VideoError

HEAD_BYTES = 4096
READ_BYTES = 1 << 16  # FFmpeg's reads of the file object; the storage layer keeps larger blocks
MAX_DEMUX_ERRORS = 100  # a damaged file is read on after so many errors at most

_MOV_BOXES = frozenset(
    b"ftyp moov mdat free skip wide pnot styp moof sidx uuid junk pict prfl".split()
)
_ASF_GUID = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # packet length and where its sync byte 0x47 stands
_PLAYLIST_STARTS = (
    b"#extm3u",
    b"ffconcat",
    b"file ",
    b"file:",
    b"[playlist]",
    b"[reference]",
    b"<asx",
    b"<smil",
    b"<mpd",
    b"<smoothstreamingmedia",
    b"v=0",
    b"rtsp:",
    b"rtsptext",
    b"http:",
    b"https:",
)


def sniff(head: bytes) -> str | None:
    """Return FFmpeg's name of the container that begins with ``head``, or None."""
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    if head.startswith(b"FLV\x01"):
        return "flv"
    if head.startswith(b"OggS"):
        return "ogg"
    if head.startswith(_ASF_GUID):
        return "asf"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "mpeg"
    for length, at in _TS_PACKETS:
        syncs = head[at::length][: max(1, len(head) // length)]
        if len(head) >= length and syncs.count(0x47) == len(syncs):
            return "mpegts"
    return None


def looks_like_playlist(head: bytes) -> bool:
    """Tell whether ``head`` begins a playlist, a manifest or a concat list."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"<?xml"):
        return b"<mpd" in start or b"<smoothstreamingmedia" in start or b"<smil" in start
    return start.startswith(_PLAYLIST_STARTS)


class Source:
    """The file object as FFmpeg sees it: without a name, and never raising into C code.

    A failed read of the storage looks like the end of the file to FFmpeg, so that the file would
    only seem truncated. The exception is kept, and :meth:`check` raises it.
    """

    name = ""

    def __init__(self, file: BinaryIO, on_progress: Callable[[], None]) -> None:
        self._file = file
        self._on_progress = on_progress
        self._error: Exception | None = None

    def readable(self) -> bool:
        """Say that reading works."""
        return True

    def seekable(self) -> bool:
        """Say that seeking works."""
        return True

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes; empty at the end, and after a failure."""
        if self._error is not None:
            return b""
        try:
            self._on_progress()
            return bytes(self._file.read(size))
        except Exception as error:  # noqa: BLE001 - any type; kept, and raised by check()
            self._error = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to ``offset``; -1 after a failure, or for a place that cannot be."""
        if self._error is not None:
            return -1
        try:
            return self._file.seek(offset, whence)
        except ValueError:
            return -1  # before the start: what a damaged index may ask for
        except Exception as error:  # noqa: BLE001 - any type; kept, and raised by check()
            if isinstance(error, OSError) and error.errno == errno.EINVAL:
                return -1  # the same, from a plain file
            self._error = error
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def check(self, stage: Stage) -> None:
        """Raise what went wrong with the file itself since the last look.

        Raises:
            VideoError: ``read_failed`` (transient), or the VideoError that the file object raised.
        """
        error, self._error = self._error, None
        if error is None:
            return
        if isinstance(error, VideoError):
            raise error
        raise VideoError(
            stage,
            "read_failed",
            f"The storage failed while the video was read ({type(error).__name__}: {error}).",
            transient=True,
        ) from error


class ExternalReferenceError(Exception):
    """The file asked for another file or URL."""


def _refuse(url: str, *_: object) -> NoReturn:
    raise ExternalReferenceError(url)


def open_container(source: Source, *, max_pixels: int, max_streams: int) -> Any:
    """Open the container in ``source``, from its start.

    Args:
        source: The file.
        max_pixels: Decoders refuse larger pictures, also while probing.
        max_streams: Most streams that the file may have.

    Returns:
        An ``av.container.InputContainer``; the caller closes it.

    Raises:
        VideoError: ``empty``, ``playlist``, ``not_a_video``, ``unreadable``, ``too_many_streams``,
            ``read_failed``.
    """
    import av

    source.seek(0)
    head = source.read(HEAD_BYTES)
    source.seek(0)
    source.check("open")
    if not head:
        raise VideoError("open", "empty", "The file is empty (0 bytes): was its upload finished?")
    name = sniff(head)
    if name is None:
        raise _no_container(head)
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": av.format.ContainerFormat(name, "r").name,
        "max_pixels": str(max_pixels),
    }
    if name == "mov":
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    try:
        container = av.open(
            source,
            "r",
            format=name,
            options=options,
            buffer_size=READ_BYTES,
            metadata_errors="replace",
            io_open=_refuse,
        )
    except ExternalReferenceError as error:
        raise _external() from error
    except (av.FFmpegError, ValueError) as error:
        source.check("open")
        raise VideoError(
            "open",
            "unreadable",
            f"The file begins like a video ({name}) but its index is missing or damaged: it is "
            "probably truncated; copy or render it again.",
        ) from error
    try:
        source.check("open")
        if len(container.streams) > max_streams:
            raise VideoError(
                "open",
                "too_many_streams",
                f"The file has {len(container.streams)} streams, more than the limit of "
                f"{max_streams} (decode.max_streams).",
            )
    except VideoError:
        container.close()
        raise
    return container


def _external() -> VideoError:
    return VideoError(
        "open",
        "playlist",
        "This is a playlist, or refers to other files or URLs; external references are refused. "
        "Give the video file itself.",
    )


def _no_container(head: bytes) -> VideoError:
    if looks_like_playlist(head):
        return _external()
    control = sum(byte < 9 or 13 < byte < 32 for byte in head)
    kind = "text" if control == 0 else "data of another kind"
    return VideoError(
        "open",
        "not_a_video",
        f"The file is not a video: it contains {kind}, not one of the containers MP4/MOV, "
        "Matroska/WebM, AVI, MPEG-TS, MPEG-PS, FLV, Ogg, ASF.",
    )


def picture_stream(container: Any) -> Any:
    """Return the first picture stream; cover art does not count.

    Raises:
        VideoError: ``no_video_stream``, ``unsupported_codec``.
    """
    import av

    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & still]
    if not streams:
        raise VideoError(
            "open",
            "no_video_stream",
            "The file has no video stream (sound or cover art only).",
        )
    if streams[0].codec_context is None:
        raise VideoError(
            "open",
            "unsupported_codec",
            "The video codec is unknown to this build of FFmpeg; convert the video, for example to "
            "H.264.",
        )
    return streams[0]


def sound_stream(container: Any) -> Any | None:
    """Return the first sound stream that can be decoded, or None."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def packets(container: Any, source: Source, streams: list[Any]) -> Iterator[Any]:
    """Yield the packets of ``streams`` in file order, reading on after damage where that works.

    Raises:
        VideoError: ``read_failed``, ``encrypted``, ``playlist``.
    """
    import av

    for _ in range(MAX_DEMUX_ERRORS):
        progress = False
        demuxed = container.demux(streams)
        while True:
            try:
                packet = next(demuxed, None)
            except ExternalReferenceError as error:
                raise _external() from error
            except (av.FFmpegError, IndexError):
                # IndexError: at the end of a damaged MPEG-TS, for streams that appeared on the way.
                packet = None
                damaged = True
            else:
                damaged = False
            source.check("decode")
            if packet is None:
                break
            # An empty packet would flush the decoder for good.
            if packet.size == 0:
                continue
            if packet.has_sidedata("encryption_info"):
                raise VideoError(
                    "decode", "encrypted", "The video is encrypted and cannot be decoded."
                )
            progress = True
            yield packet
        if not (damaged and progress):
            return
