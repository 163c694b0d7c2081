#!/usr/bin/env python3
"""Check SyncNet's weights against the published figures, or measure any face-crop video.

    python jobs/check_syncnet.py --weights syncnet_v2.model --video example.avi

The video is a ready face crop, as the published ``example.avi`` (224 x 224, 25 fps): the whole
frame is resized to 224 x 224, all frames are used, and no face is looked for. See docs/syncnet.md.

Exit status: 0 within the tolerance (or measured only), 1 outside it, 2 usage, weights or video.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# This folder must not stay on the path: its select.py would stand in for Python's own module.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from actors.types import U8

OK, OUTSIDE, USAGE = 0, 1, 2
PUBLISHED = (3, 5.353, 10.021)  # example.avi: offset, min distance, confidence
# The published evaluation reads frames that were compressed once more, as JPEG; here they are not.
TOLERANCE = 0.3
MOST_SECONDS = 300.0  # all crops are held in memory: 3.8 MB a second


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="jobs/check_syncnet.py",
        description="Measure the sync of a face-crop video and compare with the published figures.",
        epilog="Exit status: 0 within the tolerance, 1 outside it, 2 usage, weights or video.",
    )
    p.add_argument("--weights", required=True, help="syncnet_v2.model by path or URI, or seeded")
    p.add_argument("--video", required=True, metavar="FILE", help="a face crop of at most 300 s")
    p.add_argument("--mode", choices=("parity", "masked"), default="parity")
    p.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="fp32")
    p.add_argument("--device", default="cpu", help="cpu or cuda:N (default %(default)s)")
    p.add_argument(
        "--expect",
        nargs=3,
        type=float,
        default=PUBLISHED,
        metavar=("OFFSET", "LSE_D", "LSE_C"),
        help="figures to compare with (default: those of example.avi, 3 5.353 10.021)",
    )
    p.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="of LSE-D and LSE-C; the offset must be equal (default %(default)s)",
    )
    p.add_argument("--measure-only", action="store_true", help="compare with nothing")
    return p


def read_crops(path: Path) -> "tuple[U8, NDArray[np.int32], NDArray[np.int16]]":
    """Read all 25 fps frames as crops, which crop shows in each frame, and the sound up to its end.

    Raises:
        VideoError: The file cannot be decoded.
    """
    import cv2
    import numpy as np

    from actors.decode import DecodeConfig, VideoReader
    from actors.types import SAMPLE_RATE
    from model.mfcc import to_int16
    from model.syncnet import CROP

    crops: list[U8] = []
    index: list[int] = []
    config = DecodeConfig(max_duration_s=MOST_SECONDS)
    with path.open("rb") as file, VideoReader(file, config, path.name) as reader:
        for frame in reader.frames():
            shown = -1
            if frame.image is not None and frame.grid:
                shown = len(crops)
                crops.append(cv2.resize(frame.image, (CROP, CROP)))
            index += [shown] * len(frame.grid)
        sound = reader.sound()
    stacked = np.stack(crops) if crops else np.zeros((0, CROP, CROP, 3), np.uint8)
    samples = np.zeros(0, np.int16)
    if sound is not None:
        samples = to_int16(sound.samples[: round(sound.end_s * SAMPLE_RATE)])
    return stacked, np.array(index, np.int32), samples


def main(argv: list[str] | None = None) -> int:
    """Measure, print, compare; return the exit status."""
    options = parser().parse_args(argv)
    from actors.errors import VideoError
    from actors.sync import Sync, SyncConfig
    from model.sync_measures import sync_score

    config = SyncConfig(
        weights=options.weights, mode=options.mode, precision=options.precision, min_face_share=0
    )
    try:
        sync = Sync(config, device=options.device)
        crops, index, samples = read_crops(Path(options.video))
        found = sync.measure(crops, index, samples)
    except (VideoError, ValueError, OSError) as error:
        print(f"check_syncnet: {error}", file=sys.stderr)
        return USAGE
    if isinstance(found, str):
        why = found if samples.size else "no_sound"
        print(f"check_syncnet: {options.video} cannot be measured: {why}", file=sys.stderr)
        return USAGE
    print(f"weights {sync.digest}{' (demonstration: random)' if sync.demonstration else ''}")
    print(f"{len(index)} frames, mode {options.mode}, {sync.precision_note}")
    figures = (found.offset, found.min_distance, found.confidence)
    names = ("offset (frames)", "min distance", "confidence")
    passed = True
    for name, figure, expected in zip(names, figures, options.expect, strict=True):
        line = f"{name:16} {figure:8.3f}"
        if not options.measure_only:
            allowed = 0.0 if name == names[0] else options.tolerance
            good = abs(figure - expected) <= allowed
            passed &= good
            verdict = "ok" if good else "DIFFERS"
            line += f"   expected {expected:8.3f} ± {allowed:g}   {verdict}"
        print(line)
    print(f"{'score (0..5)':16} {sync_score(found.confidence):8.3f}")
    if found.offset:
        who = "sound leads the picture" if found.offset > 0 else "picture leads the sound"
        print(f"the {who} by {abs(found.offset)} frames ({40 * abs(found.offset)} ms)")
    return OK if passed else OUTSIDE


if __name__ == "__main__":
    sys.exit(main())
