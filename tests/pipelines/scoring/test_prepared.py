"""Baseline and gate of a run, before anything is scored."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.checkpoint import CheckpointPeek
from pipelines.scoring.baseline import compare
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.gate import GateFacts, judge
from pipelines.scoring.gate_config import GateConfig
from pipelines.scoring.prepared import Prepared, prepare
from tests.pipelines.scoring.score_tables import CHECKPOINT, video, videos, write_output


class Peek(CheckpointPeek):
    """A checkpoint of which only the digest counts here."""

    def __init__(self) -> None:
        object.__setattr__(self, "digest", CHECKPOINT)


def table(*ids: str, **more: Any) -> pa.Table:
    return videos(video(i, generator=i.partition("/")[0], **more) for i in ids)


def prepared(folder: Path, ids: list[str], *, out: str | None = None, **corpus: Any) -> Prepared:
    config = ScoreConfig.model_validate({"baseline": str(folder), "corpus": corpus})
    return prepare(config, Peek(), iter(ids), out=out)


def test_without_a_baseline_there_is_none() -> None:
    assert prepare(ScoreConfig(), Peek(), ["a/1"], out="anywhere") == Prepared(None, None, None)


@pytest.mark.parametrize(
    "other",
    [
        {"score": 3.5},
        {"lip_sync": None},
        {"score_key": "another"},
        {"source_version": "another"},
        {"speaker": "s1"},
    ],
)
def test_the_digest_knows_scores_versions_and_units(tmp_path: Path, other: dict[str, Any]) -> None:
    write_output(tmp_path / "one", table("a/1", "a/2"))
    write_output(tmp_path / "same", table("a/2", "a/1"))
    write_output(tmp_path / "other", table("a/1", "a/2", **other))
    one, same, changed = (
        prepared(tmp_path / name, ["a/1"]).baseline_digest for name in ("one", "same", "other")
    )
    assert one == same != changed


def test_an_output_is_not_its_own_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_output(out, table("a/1"))
    (tmp_path / "link").symlink_to(out)
    monkeypatch.chdir(tmp_path)
    for same in (str(out), f"{out}/", f"file://{out}", "out", "./x/../out", str(tmp_path / "link")):
        with pytest.raises(ScoreInputError, match=r"--baseline .*is the output of this run"):
            prepared(out, ["a/1"], out=same)
    for other in (str(tmp_path), f"{out}2", "memory://out", os.fspath(out / "more")):
        assert prepared(out, ["a/1"], out=other).baseline is not None


def test_only_a_quiet_night_may_share_nothing(tmp_path: Path) -> None:
    write_output(tmp_path, table("a/1"))
    with pytest.raises(ScoreInputError, match="baseline of other videos"):
        prepared(tmp_path, ["a/9"])
    for found in (prepared(tmp_path, []), prepared(tmp_path, ["a/9"], since="24h")):
        assert found.baseline is not None
        assert found.baseline_digest


def test_another_checkpoint_is_refused_among_the_newest_videos_too(tmp_path: Path) -> None:
    write_output(tmp_path, table("a/1", checkpoint="other"))
    with pytest.raises(ScoreInputError, match="not comparable"):
        prepared(tmp_path, ["a/1"], since="24h")


def test_generators_without_new_videos_are_not_gone(tmp_path: Path) -> None:
    names = [f"{g}/{i}" for g in ("busy", "idle") for i in range(8)]
    write_output(tmp_path, table(*names))
    now = table(*names[:8], score=3.1)
    rule = {"task": "overall", "generator": "each", "max_drop": {"value": 0.1}}
    gate = GateConfig.model_validate({"rules": [rule]})

    def verdicts(**corpus: Any) -> list[tuple[str, bool]]:
        baseline = prepared(tmp_path, names[:8], **corpus).baseline
        assert baseline is not None
        result = judge(gate, GateFacts(now, 8, 0, False, compare(now, baseline)))
        return [(v.rule.split(",")[0], v.passed) for v in result.verdicts[2:]]

    assert verdicts() == [("busy", True), ("idle", False)]
    assert verdicts(since="24h") == [("busy", True)]
