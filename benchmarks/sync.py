#!/usr/bin/env python3
"""What SyncNet's weights find: injected offsets, and own sound against foreign sound.

    python benchmarks/sync.py held-out=demo-output/corpus --speakers elio,fay [--bars]
    python benchmarks/sync.py real=clips --weights syncnet_v2.model --set mode=masked

Each group is a corpus (folder, manifest …) of clean video. Faces are found and cropped as in
extraction, and every figure goes through `actors.sync.Sync` with the weights given. Videos are cut
into clips of 6 s and of 3 s. An offset of k frames takes the sound of a clip k frames further on in
its video (a positive one leads); where a video ends, frames without sound are cut off, as
extraction does. Foreign sound is that of a clip of another video of the group.

exact: share of offsets -10..10 that are found exactly, taking each video to be in sync; ±1: within
one frame; moved: share whose difference from what is found without an offset is exactly the offset,
which is what counts for videos whose own offset is not known; preferred: share of trials in which
own sound gives more confidence than foreign sound; LSE-C and LSE-D: medians in sync; foreign LSE-C:
median under foreign sound.

With --bars the exit status is 1 unless exact is at least 95 % and preferred at least 98 % in every
row.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

LARGEST = 10  # frames
LENGTHS = (6.0, 3.0)  # seconds
FOREIGNERS = 4  # for each clip
BARS = (0.95, 0.98)
FPS, FRAME = 25, 640  # frames a second, samples of a frame
WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "demo_sync.safetensors"


@dataclass
class Track:
    """A whole video as SyncNet reads it."""

    name: str
    crops: Any  # [k, 224, 224, 3]
    index: Any  # [frames]
    samples: Any  # [frames * 640] int16

    def cut(self, start: int, count: int, offset: int = 0) -> tuple[Any, Any, Any]:
        """Return crops, index and sound of a clip whose sound leads by ``offset`` frames."""
        first = max(start, -offset)  # frames without sound are cut off
        last = min(start + count, len(self.index), len(self.samples) // FRAME - offset)
        sound = self.samples[(first + offset) * FRAME : (last + offset) * FRAME]
        index = self.index[first:last]
        shown = index[index >= 0]
        low, high = (int(shown.min()), int(shown.max()) + 1) if shown.size else (0, 0)
        return self.crops[low:high], np.where(index >= 0, index - low, -1), sound


@dataclass
class Counts:
    """What a row of the table is made of."""

    found: list[tuple[int, int, int]] = field(default_factory=list)  # true, found, found at 0
    trials: list[tuple[float, float]] = field(default_factory=list)  # LSE-C own, foreign
    in_sync: list[tuple[float, float]] = field(default_factory=list)  # LSE-C, LSE-D
    unmeasured: int = 0


def read(corpus: str, pattern: str | None, speakers: set[str]) -> list[Track]:
    """Prepare every video of a corpus, as extraction does."""
    from actors.errors import VideoError
    from actors.features import FeaturesConfig
    from actors.prepare import Preparer
    from actors.sync import heard_frames
    from actors.types import Timings
    from pipelines.corpus import CorpusConfig, iter_corpus
    from pipelines.storage import open_uri

    preparer = Preparer(FeaturesConfig(modalities=("sync",)))
    tracks = []
    for ref in iter_corpus(CorpusConfig(corpus=corpus, pattern=pattern)):
        if speakers and ref.speaker not in speakers:
            continue
        crops: list[Any] = []
        index: list[Any] = []
        sound: list[Any] = []
        try:
            with open_uri(ref.uri) as file:
                for row in preparer.open(file, ref.video_id, Timings(), lambda _: None).rows:
                    if not row["has_sound"]:
                        continue
                    at, samples = heard_frames(row)
                    shift = sum(len(part) for part in crops)
                    crops.append(row["sync_crops"])
                    index.append(np.where(at >= 0, at + shift, -1))
                    sound.append(samples[: len(at) * FRAME])
        except VideoError as error:
            print(f"  left out: {ref.video_id}: {error}", flush=True)
            continue
        if not index:
            print(f"  left out: {ref.video_id}: no sound", flush=True)
            continue
        tracks.append(Track(ref.video_id, *map(np.concatenate, (crops, index, sound))))
    return tracks


def measure(sync: Any, tracks: list[Track], seconds: float, largest: int) -> Counts:
    """Try every offset and foreign sound on every clip of one length."""
    counts = Counts()
    length = round(seconds * FPS)
    clips = [(t, s) for t in tracks for s in range(0, len(t.index) - length + 1, length)]
    rng = np.random.default_rng(0)
    for track, start in clips:
        plain = sync.measure(*track.cut(start, length))
        if isinstance(plain, str):
            counts.unmeasured += 1
            continue
        counts.in_sync.append((plain.confidence, plain.min_distance))
        for offset in range(-largest, largest + 1):
            got = plain if offset == 0 else sync.measure(*track.cut(start, length, offset))
            if isinstance(got, str):
                counts.unmeasured += 1
            else:
                counts.found.append((offset, got.offset, plain.offset))
        others = [clip for clip in clips if clip[0] is not track]
        for place in rng.permutation(len(others))[:FOREIGNERS]:
            other, at = others[place]
            crops, index, _ = track.cut(start, length)
            got = sync.measure(crops, index, other.cut(at, length)[2])
            if not isinstance(got, str):
                counts.trials.append((plain.confidence, got.confidence))
    return counts


def row(counts: Counts) -> tuple[list[str], float, float]:
    """Return the figures of a row as text, and the two that have bars."""
    if not counts.found:
        return ["nothing could be measured"], 0.0, 0.0
    true, found, zero = np.array(counts.found).T
    exact = float(np.mean(true == found))
    figures = [f"{exact:.1%}", f"{np.mean(abs(true - found) <= 1):.1%}"]
    figures.append(f"{np.mean(found - zero == true):.1%}")
    preferred, foreign = float("nan"), float("nan")
    if counts.trials:
        own, other = np.array(counts.trials).T
        preferred, foreign = float(np.mean(own > other)), float(np.median(other))
    confidence, distance = np.median(np.array(counts.in_sync), axis=0)
    figures += [f"{preferred:.1%}", f"{confidence:.2f}", f"{distance:.2f}", f"{foreign:.2f}"]
    sizes = f"{len(counts.in_sync)} clips, {len(true)} offsets, {len(counts.trials)} trials"
    if counts.unmeasured:
        sizes += f", {counts.unmeasured} not measured"
    return [*figures, sizes], exact, preferred


def main() -> int:
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("groups", nargs="+", metavar="NAME=URI", help="corpora of clean video")
    p.add_argument(
        "--weights", default=str(WEIGHTS), help="as --sync-weights (default: the demo's)"
    )
    p.add_argument("--speakers", default="", help="only videos of these, with commas between")
    p.add_argument("--pattern", help="names in paths, as for jobs/extract.py")
    p.add_argument(
        "--seconds", default=",".join(f"{s:g}" for s in LENGTHS), help="lengths of clips"
    )
    p.add_argument("--set", action="append", default=[], metavar="A=V", help="setting of sync")
    p.add_argument("--bars", action="store_true", help="exit with 1 when a bar is missed")
    args = p.parse_args()
    from actors.sync import Sync, SyncConfig
    from pipelines.config import load_config

    config = load_config(SyncConfig, None, [f"weights={args.weights}", *args.set])
    sync = Sync(config)
    print(f"weights {sync.digest}, faces of {sync.face} pixels, mode {config.mode}")
    print(sync.precision_note)
    heads = ("group", "exact", "±1", "moved", "preferred", "LSE-C", "LSE-D", "foreign LSE-C", "of")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    missed = False
    for group in args.groups:
        name, _, corpus = group.rpartition("=")
        tracks = read(corpus, args.pattern, set(filter(None, args.speakers.split(","))))
        for seconds in map(float, args.seconds.split(",")):
            figures, exact, preferred = row(measure(sync, tracks, seconds, LARGEST))
            print(f"| {name or corpus}, {seconds:g} s | {' | '.join(figures)} |", flush=True)
            missed |= exact < BARS[0] or not preferred >= BARS[1]
    if args.bars:
        print("a bar was missed" if missed else "every bar was met")
    return int(missed and args.bars)


if __name__ == "__main__":
    sys.exit(main())
