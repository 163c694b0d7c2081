"""A processor that stands where extraction stands and does what a video's name says.

``crash`` kills its process, ``hang`` sleeps without a sign of life, ``bug`` raises what nobody
expects, ``bad`` cannot be processed, ``slowN`` takes N tenths of a second; everything else gives
one to three rows whose values depend on the name alone. Those with ``TALKMOS_TEST_HOLD`` in their
names wait until the file ``TALKMOS_TEST_RELEASE`` exists, so that a test can act in the middle.
"""

import os
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from actors.errors import VideoError
from actors.features import STRUCT_FIELDS
from actors.types import Row, Timings, VideoRef
from pipelines.messages import ProcessorInfo, Progress, VideoEnd

LEFT_OUT = frozenset(
    {"visual", "audio", "landmarks", "lowlevel", "sync", "sync_reason", "descriptors"}
)


class Fake:
    def __init__(self, threads: int) -> None:
        self.threads = threads

    def load(self) -> ProcessorInfo:
        return ProcessorInfo({"fake": "1"}, {"fake": "0"}, True, STRUCT_FIELDS, LEFT_OUT)

    def ahead(self, coming: list[VideoRef]) -> None:
        pass

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        name = Path(ref.uri).stem
        progress.beat("decode")
        if log := os.environ.get("TALKMOS_TEST_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{os.getpid()} {name}\n")
        if "crash" in name:
            time.sleep(0.5)  # as decoders do: not within microseconds of the answer before
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in name:
            time.sleep(3600)
        if "bug" in name:
            raise KeyError(name)
        if "bad" in name:
            raise VideoError("decode", "not_a_video", "The file is not a video.")
        if (hold := os.environ.get("TALKMOS_TEST_HOLD")) and hold in name:
            while not Path(os.environ["TALKMOS_TEST_RELEASE"]).exists():
                time.sleep(0.05)
                progress.beat("decode")
        if "slow" in name:
            time.sleep(int(name.partition("slow")[2].partition("_")[0]) / 10)
        seed = zlib.crc32(ref.video_id.encode())
        for index in range(1 + seed % 3):
            rng = np.random.default_rng([seed, index])
            mask = rng.random(150) < 0.9
            yield {
                "clip_index": index,
                "start_s": 6.0 * index,
                "end_s": 6.0 * index + 6.0,
                "frame_mask": mask,
                "face_mask": mask,
                "audio_mask": mask,
                "faces": dict.fromkeys(STRUCT_FIELDS["faces"]),
                "action_units": rng.random((150, 17), np.float32),
            }
            progress.beat("encode")
        yield VideoEnd(0.5)

    def close(self) -> None:
        pass


def make_fake(threads: int) -> Fake:
    return Fake(threads)
