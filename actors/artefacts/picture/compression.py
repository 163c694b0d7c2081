"""A low bit rate, by a real codec."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.x264 import x264_options
from actors.types import FPS, U8
from model.tasks import Task

LEAST_QP: Final = 24  # hardly any difference is seen
MOST_QP: Final = 51  # the coarsest that H.264 knows


class Compression(PictureArtefact):
    """H.264 with a constant quantiser and without its deblocking filter, so that blocks show.

    Pictures go through encoder and decoder one by one; a few of them wait inside for reordering.
    Nothing is random, and the result is the same in every run.
    """

    type: ClassVar[str] = "compression"
    title: ClassVar[str] = "blocky compression"
    group: ClassVar[Group] = "picture"
    # Blocks eat the face's detail, and parts of it stick between key frames.
    harms: ClassVar[Mapping[Task, float]] = {"expression": 2.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return the quantisation parameter of H.264; 6 more double the quantiser's step."""
        return {"qp": float(round(LEAST_QP + (MOST_QP - LEAST_QP) * severity))}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Encode and decode; see :class:`actors.artefacts.artefact.PictureArtefact`."""
        import av
        import cv2

        height, width = scene.size
        # Colour is stored for 2x2 pixels, so sides must be even.
        below, right = height % 2, width % 2
        encoder = _encoder(width + right, height + below, int(self.measures(severity)["qp"]))
        decoder: Any = av.CodecContext.create("h264", "r")
        decoder.thread_count = 1

        def decoded(packets: Iterable[Any]) -> Iterator[U8]:
            for packet in packets:
                for image in decoder.decode(packet):
                    yield np.ascontiguousarray(_rgb(image)[:height, :width])

        for i, frame in enumerate(frames):
            image = _yuv(cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE))
            image.pts = i
            yield from decoded(encoder.encode(image))
        yield from decoded(encoder.encode(None))
        yield from decoded([None])


def _encoder(width: int, height: int, qp: int) -> Any:
    """Make an encoder."""
    import av

    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(FPS), Fraction(1, FPS)
    encoder.thread_count = 1
    encoder.options = {"preset": "veryfast", "qp": str(qp), **x264_options("no-deblock=1")}
    return encoder


# FFmpeg's own conversion there and back darkens pictures by half a level or more; this one rounds.


def _yuv(picture: U8) -> Any:
    """Convert RGB [H, W, 3] with even sides to an ``av.VideoFrame``: BT.601, full range, 4:2:0."""
    import av
    import cv2

    height, width = picture.shape[:2]
    y, cr, cb = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb))
    half = (width // 2, height // 2)
    small = [cv2.resize(plane, half, interpolation=cv2.INTER_AREA).ravel() for plane in (cb, cr)]
    planes = np.concatenate([y.ravel(), *small]).reshape(-1, width)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _rgb(image: Any) -> U8:
    """Convert back to RGB [H, W, 3]."""
    import cv2

    height, width = image.height, image.width
    y, cb, cr = np.split(image.to_ndarray().ravel(), np.cumsum([4, 1]) * (height * width // 4))
    full = [
        cv2.resize(plane.reshape(height // 2, width // 2), (width, height)) for plane in (cr, cb)
    ]
    picture = cv2.cvtColor(cv2.merge([y.reshape(height, width), *full]), cv2.COLOR_YCrCb2RGB)
    return np.asarray(picture, np.uint8)
