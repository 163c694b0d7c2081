"""The damaged demo corpus: which video gets which damage, and the label table beside it.

The labels are made up by rule (``actors.demo.damage``), with a little noise as raters have it. Some
are missing, as in real tables.
"""

import csv
import io
from typing import Final

import numpy as np

from actors.demo.damage import Damage, Kind, Rating, rate, true_scores
from actors.demo.render import SPEAKERS, VideoSpec
from model.tasks import MISSING, TASKS

# What the videos of a speaker suffer from, in order; None is none. Frozen is mouth or picture.
_TURNS: Final = (None, "offset", "noise", "frozen", "blur", "offset", "muffled", "jitter")
_OFFSET_PERIOD: Final = 4  # turns from one offset to the next
_LEAST_SEVERITY: Final = 0.3
# No speaker on two sides: the last two are held out.
_HELD_OUT: Final = {"elio": "val", "fay": "test"}
# One label in so many is missing, in each task that real data leave gaps in.
_GAP_EVERY: Final = 12


def damages(videos: int, seed: int) -> list[Damage | None]:
    """Return the damage of each video; speakers take turns, then the kinds.

    The severities of a kind are spread evenly over [0.3, 1] and dealt to the speakers at random.
    Offsets lead in one half of the videos and lag in the other.
    """
    speakers = len(SPEAKERS)
    levels = np.linspace(_LEAST_SEVERITY, 1.0, speakers)
    result: list[Damage | None] = []
    for turn in range(-(-videos // speakers)):
        name = _TURNS[turn % len(_TURNS)]
        severities = np.random.default_rng([seed, turn, 0x5E7]).permutation(levels)
        for who, severity in enumerate(severities.round(2).tolist()):
            kind = _kind(name, turn // len(_TURNS) + who)
            # Of the two offsets of a speaker one leads and one lags.
            direction = 1 if kind != "offset" or (turn // _OFFSET_PERIOD + who) % 2 else -1
            result.append(Damage(kind, severity, direction) if kind else None)
    return result[:videos]


def _kind(name: str | None, parity: int) -> Kind | None:
    match name:
        case "offset" | "noise" | "muffled" | "blur" | "jitter":
            return name
        case "frozen":
            return "frozen_mouth" if parity % 2 else "frozen_picture"
        case _:
            return None


def split_of(speaker: str) -> str:
    """Return train, val or test; all videos of a speaker are on one side."""
    return _HELD_OUT.get(speaker, "train")


def label_table(specs: tuple[VideoSpec, ...], seed: int) -> str:
    """Return the label table as CSV, one row a video.

    Columns: ``video_id``, the five tasks, ``<task>_std`` and ``<task>_n`` for each, ``generator``
    (the damage), ``speaker``, ``split``. A missing label is empty or -1, its spread and number are
    empty.
    """
    gaps = _gaps(len(specs), seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    extras = [f"{task}_{what}" for task in TASKS for what in ("std", "n")]
    writer.writerow(["video_id", *TASKS, *extras, "generator", "speaker", "split"])
    for i, spec in enumerate(specs):
        ratings: list[Rating | None] = []
        # Drawn for every task, so that a gap does not change the neighbours.
        rng = np.random.default_rng([spec.seed, 0x8A7E])
        for task, score in true_scores(spec.damage).items():
            rating = rate(score, rng)
            ratings.append(None if (i, task) in gaps else rating)
        missing = f"{MISSING:g}" if i % 2 else ""
        means = [f"{rating.mean:.3f}" if rating else missing for rating in ratings]
        spreads = [cell for r in ratings for cell in ((f"{r.std:.3f}", r.n) if r else ("", ""))]
        who = [spec.generator, spec.speaker, split_of(spec.speaker)]
        writer.writerow([spec.video_id, *means, *spreads, *who])
    return text.getvalue()


def _gaps(videos: int, seed: int) -> set[tuple[int, str]]:
    """Return (video, task) of the missing labels; lip sync is complete, as in real data."""
    gaps: set[tuple[int, str]] = set()
    for start in range(0, videos, _GAP_EVERY):
        rng = np.random.default_rng([seed, start, 0x6A9])
        for task in TASKS[1:]:
            gaps.add((start + int(rng.integers(_GAP_EVERY)), task))
    return gaps
