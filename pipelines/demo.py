"""The demo corpus: a folder of talking faces whose lip motion is known (see ``actors/demo``).

Layout: ``{generator}/{speaker}-{number}.mp4``, ``manifest.csv`` (video_id, uri relative to the
manifest, generator, speaker) and ``truth.json`` (what each video says, the lips in every frame).
The corpus of generators has the same words from a few made-up generators of known quality.
"""

import csv
import io
import json
import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from actors.demo.damage import true_scores
from actors.demo.portrait import load
from actors.demo.render import SPEAKERS, VideoSpec, digest_of, render, utterance
from actors.types import CLIP_SECONDS, FPS, MIN_SECONDS
from pipelines.child_process import end_with_parent
from pipelines.demo_generators import PROMPTS, generator_specs

GENERATOR = "clean"
VIDEOS, SECONDS = 12, 12.0
GENERATED_SECONDS = 3.0

Kind = Literal["clean", "generators"]
Progress = Callable[[int, int], None]  # videos finished, videos to make


@dataclass(frozen=True, slots=True)
class DemoCorpus:
    """What :func:`write_demo_corpus` left in the folder."""

    folder: Path
    manifest: Path
    specs: tuple[VideoSpec, ...]
    written: int  # videos made by this call
    kept: int  # videos that were already there, complete
    clips: int  # of 6 s, the last one of a video at least 1 s


def demo_specs(
    videos: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    *,
    kind: Kind = "clean",
) -> tuple[VideoSpec, ...]:
    """Return the specifications of a corpus: speakers take turns, every video says something else.

    Args:
        videos: How many, of each generator if there are several; None is 12, or 4 of each
            generator.
        seconds: Length of each; None is 12, or 3 of made-up generators.
        seed: Another seed says other things.
        kind: ``generators``: see :mod:`pipelines.demo_generators`.

    Raises:
        ValueError: ``videos`` under 1, ``seconds`` under 1 or not a whole number of frames, or
            ``seed`` negative.
    """
    if videos is None:
        videos = VIDEOS if kind == "clean" else PROMPTS
    if seconds is None:
        seconds = SECONDS if kind == "clean" else GENERATED_SECONDS
    if videos < 1:
        raise ValueError(f"a corpus has at least 1 video, not {videos}")
    if not math.isfinite(seconds) or seconds < MIN_SECONDS:
        raise ValueError(f"a demo video lasts at least {MIN_SECONDS:g} s, not {seconds:g} s")
    if abs(seconds * FPS - round(seconds * FPS)) > 1e-6:
        raise ValueError(f"{seconds:g} s is not a whole number of frames at {FPS} a second")
    if seed < 0:
        raise ValueError(f"the seed is 0 or more, not {seed}")
    if kind == "generators":
        return generator_specs(videos, seconds, seed)
    names = list(SPEAKERS)
    return tuple(
        VideoSpec(
            GENERATOR,
            names[i % len(names)],
            i // len(names) + 1,
            seconds,
            seed * 100_000 + i,
        )
        for i in range(videos)
    )


def write_demo_corpus(
    folder: str | Path,
    *,
    videos: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    kind: Kind = "clean",
    processes: int = 2,
    progress: Progress | None = None,
) -> DemoCorpus:
    """Make the demo corpus in ``folder``, or what is missing of it.

    By default 6 speakers x 2 videos x 12 s = 24 clips of 6 s. Each video carries the digest of
    its specification; one that is there with the right digest is kept, so a second call does
    nothing and a call after a crash goes on. Every file appears whole. A video that is not ours is
    never replaced, and no video is deleted; the manifest names exactly those asked for.

    Args:
        folder: A local folder; it is made when it is missing.
        videos: See :func:`demo_specs`, as for the next three.
        seconds: Length of each.
        seed: Another seed is another corpus.
        kind: What is in it, see :func:`demo_specs`.
        processes: How many worker processes draw, at most; 1 draws in this process.
        progress: Called after each video.

    Raises:
        ValueError: See :func:`demo_specs`.
        FileExistsError: A file that this function did not write stands where a video belongs.
        ModuleNotFoundError: scikit-image, which brings the portrait, is not installed.
    """
    folder = Path(folder)
    specs = demo_specs(videos, seconds, seed, kind=kind)
    tasks = []
    for spec in specs:
        path = _path(folder, spec)
        if path.exists():
            found = digest_of(path)
            if found is None:
                raise FileExistsError(
                    f"{path} is not a demo video: choose another folder, or move the file away"
                )
            if found == spec.digest:
                continue
        tasks.append((spec, path))
    if tasks:
        load()  # complain here, once, when scikit-image is missing
    for _, path in tasks:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
    _render_all(tasks, min(processes, len(tasks)), progress)
    _write_if_other(folder / "truth.json", _truth(specs, damaged=kind != "clean"))
    manifest = folder / "manifest.csv"
    _write_if_other(manifest, _manifest(specs))
    return DemoCorpus(
        folder,
        manifest,
        specs,
        written=len(tasks),
        kept=len(specs) - len(tasks),
        clips=sum(map(_clips, specs)),
    )


def _path(folder: Path, spec: VideoSpec) -> Path:
    return folder / f"{spec.video_id}.mp4"


def _clips(spec: VideoSpec) -> int:
    whole, rest = divmod(spec.seconds, CLIP_SECONDS)
    return int(whole) + (rest >= MIN_SECONDS)


def _render_all(
    tasks: list[tuple[VideoSpec, Path]], processes: int, progress: Progress | None
) -> None:
    def report(done: int) -> None:
        if progress:
            progress(done, len(tasks))

    if processes <= 1:
        for done, (spec, path) in enumerate(tasks, start=1):
            render(spec, path)
            report(done)
        return
    # Spawned, not forked: OpenCV and FFmpeg hold threads that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=end_with_parent) as pool:
        jobs = [pool.submit(render, spec, path) for spec, path in tasks]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                report(done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _clear_leftovers(path: Path) -> None:
    """Remove what a killed process of ours left of this file: ``.{name}.{process id}.partial``."""
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        owner = partial.name.removeprefix(f".{path.name}.").removesuffix(".partial")
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            partial.unlink(missing_ok=True)


def _manifest(specs: tuple[VideoSpec, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video_id", "uri", "generator", "speaker"])
    for spec in specs:
        writer.writerow([spec.video_id, f"{spec.video_id}.mp4", spec.generator, spec.speaker])
    return text.getvalue()


def _truth(specs: tuple[VideoSpec, ...], *, damaged: bool) -> str:
    """Per video: visemes with their times, tracks at 25 fps (frame i is the instant i / 25 s).

    Both are what was said before any damage; beside them stand the damage in physical units and the
    scores that follow from it.
    """
    videos: dict[str, dict[str, Any]] = {}
    for spec in specs:
        said = utterance(spec)
        tracks = {
            name: [round(float(value), 4) for value in getattr(said, name)]
            for name in ("opening", "width", "rounding", "f0_hz")
        }
        videos[spec.video_id] = {
            "spec": spec.as_dict(),
            "visemes": [
                {**asdict(v), "start_s": round(v.start_s, 3), "end_s": round(v.end_s, 3)}
                for v in said.visemes
            ],
            **tracks,
        }
        if damaged:
            videos[spec.video_id] |= {
                "damage": spec.damage.measures(spec.frames) if spec.damage else {},
                "scores": {task: round(v, 4) for task, v in true_scores(spec.damage).items()},
            }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in videos.items())
    return f'{{"fps": {FPS}, "videos": {{\n{lines}\n}}}}\n'


def _write_if_other(path: Path, text: str) -> None:
    """Write a text file by renaming; leave it and its modification time alone when it is equal."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
