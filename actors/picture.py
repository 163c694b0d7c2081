"""A decoded picture -> an upright RGB image with square pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.container import picture_stream
from actors.errors import VideoError
from actors.types import U8

BLACK_LEVEL = 24  # of 255: no channel of an all-black picture is brighter, coding noise included
_LARGEST_ASPECT = 8  # a pixel more oblong than that is a broken header
_HD = (1280, 576)  # wider or higher: BT.709 unless the stream says otherwise, as players do
_BT709, _BT601 = 1, 5  # SWS_CS_ITU709, SWS_CS_ITU601; AVCOL_SPC_BT709 is 1 too
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG


@dataclass(frozen=True, slots=True)
class Orientation:
    """How the stored picture becomes upright: transpose first, then mirror."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation(self) -> int:
        """Clockwise degrees of the turn: 0, 90, 180, 270 (mirroring left aside)."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0


def orientation(frame: Any) -> Orientation:
    """Read the display matrix of a decoded ``av.VideoFrame``.

    The matrix maps a stored pixel (x, y) to (a x + c y, b x + d y); of it, the nearest of the eight
    turns and mirrorings is taken.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(False, flip_x=a < 0, flip_y=d < 0)


def is_black(image: U8) -> bool:
    """Tell whether an RGB image is all black."""
    # Nearly every picture is told by a few of its pixels.
    return int(image[::8, ::8].max()) <= BLACK_LEVEL and int(image.max()) <= BLACK_LEVEL


class Converter:
    """Converts the pictures of one stream; the first one fixes the size of all.

    Args:
        first: The first decoded ``av.VideoFrame``.
        aspect: Width / height of a pixel (sample aspect ratio), or None when unknown.
        max_pixels: Most pixels of the result.

    Raises:
        VideoError: ``too_large``.
    """

    def __init__(self, first: Any, aspect: float | None, max_pixels: int) -> None:
        from av.video.reformatter import VideoReformatter

        self._orientation = orientation(first)
        width, height = first.width, first.height
        if aspect is not None and 1 / _LARGEST_ASPECT <= aspect <= _LARGEST_ASPECT:
            # Squares are made by stretching, so that no detail is lost.
            width, height = max(width, round(width * aspect)), max(height, round(height / aspect))
        if width * height > max_pixels:
            raise too_large(width, height, max_pixels)
        self._stored = (width, height)
        self._reformatter = VideoReformatter()

    @property
    def rotation(self) -> int:
        """Degrees that are undone: 0, 90, 180, 270."""
        return self._orientation.rotation

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images."""
        width, height = self._stored
        return (height, width) if self._orientation.transpose else (width, height)

    def convert(self, frame: Any) -> U8:
        """Convert an ``av.VideoFrame`` to RGB [H, W, 3].

        Raises:
            av.FFmpegError: The pixel format cannot be converted.
        """
        import cv2
        from av.video.reformatter import ColorRange, Interpolation

        space = None
        if frame.colorspace == _UNSPECIFIED:
            hd = frame.width >= _HD[0] or frame.height > _HD[1]
            space = _BT709 if hd else _BT601
        rgb = self._reformatter.reformat(
            frame,
            width=self._stored[0],
            height=self._stored[1],
            format="rgb24",
            src_colorspace=space,
            interpolation=Interpolation.BICUBIC,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        image: Any = rows[: rgb.height, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)
        turn = self._orientation
        if turn.transpose:
            image = cv2.transpose(image)
        if turn.flip_x or turn.flip_y:
            image = cv2.flip(image, -1 if turn.flip_x and turn.flip_y else int(turn.flip_x))
        return np.ascontiguousarray(image)


def limited_stream(container: Any, *, max_pixels: int, threads: int) -> Any:
    """Return the picture stream of a container, set to stay within the limits.

    Raises:
        VideoError: ``no_video_stream``, ``unsupported_codec``, ``too_large``.
    """
    import av

    stream = picture_stream(container)
    context = stream.codec_context
    if context.width * context.height > max_pixels:
        raise too_large(context.width, context.height, max_pixels)
    context.thread_type = av.codec.context.ThreadType.SLICE
    context.thread_count = threads
    context.options = {"max_pixels": str(max_pixels)}
    return stream


def too_large(width: int, height: int, max_pixels: int) -> VideoError:
    """Make the error of a picture beyond the limit."""
    return VideoError(
        "decode",
        "too_large",
        f"The picture has {width}x{height} = {width * height:,} pixels, more than the limit of "
        f"{max_pixels:,} (decode.max_pixels).",
    )
