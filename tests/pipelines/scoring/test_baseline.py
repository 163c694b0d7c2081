"""A run against another one: known differences, and baselines that cannot be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from model.paired import holm
from model.tasks import TASKS
from pipelines.scoring.baseline import Change, check_baseline, compare, read_baseline
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.leaderboard import LeaderboardConfig
from tests.pipelines.scoring.score_tables import corpus, video, videos, write_output

OTHER = "dd" * 8


def run(scores: dict[str, float | None], **more: Any) -> pa.Table:
    """A run of videos of generators ``<generator>/<name>``, all scores equal."""
    return videos(
        video(i, generator=i.split("/")[0] if "/" in i else None, score=s, **more)
        for i, s in scores.items()
    )


def test_videos_are_paired_by_their_id() -> None:
    before = run({"a/1": 3.0, "a/2": 3.0, "b/1": 4.0, "old/1": 2.0})
    after = run({"b/1": 4.5, "a/2": 2.0, "a/1": 2.5, "new/1": 1.0})
    change = compare(after, before)
    overall = change.tasks["overall"]
    assert (overall.n, overall.before, overall.after) == (3, pytest.approx(10 / 3), 3.0)
    assert overall.difference == pytest.approx((-0.5 - 1.0 + 0.5) / 3)
    assert change.by_generator["a"][0] == 2
    assert change.by_generator["a"][1]["lip_sync"].difference == pytest.approx(-0.75)
    assert change.by_generator["b"][1]["overall"].difference == pytest.approx(0.5)
    assert [(m.video_id, m.difference) for m in change.fell] == [("a/2", -1.0), ("a/1", -0.5)]
    assert [(m.video_id, m.before, m.after) for m in change.rose] == [("b/1", 4.0, 4.5)]
    assert (change.only_here, change.only_there, change.absent) == (["new/1"], ["old/1"], ["old"])
    told = change.to_json()
    assert told["videos"] == {"both": 3, "same_content": 3, "only_here": 1, "only_there": 1}
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_tests_and_intervals_agree_with_the_t_test() -> None:
    before, _ = corpus({"a": 3.0, "b": 3.5}, prompts=60, seed=1)
    after, _ = corpus({"a": 2.9, "b": 3.5}, prompts=60, seed=1)
    noise = np.random.default_rng(4).normal(0, 0.2, 120)
    column = after.schema.get_field_index("overall")
    noisy = pa.array(after["overall"].to_numpy() + noise, pa.float32())
    after = after.set_column(column, "overall", noisy)
    change = compare(after, before, LeaderboardConfig(pair_by="name"))
    d = after["overall"].to_numpy() - before["overall"].to_numpy()
    for name, rows in (("a", slice(60)), ("b", slice(60, None))):
        shift = change.by_generator[name][1]["overall"]
        theirs = stats.ttest_1samp(d[rows], 0)
        bounds = theirs.confidence_interval(0.95)
        assert shift.p == pytest.approx(theirs.pvalue, abs=0.015)
        assert (shift.low, shift.high) == pytest.approx((bounds.low, bounds.high), abs=0.02)
    by_task = [change.tasks[task] for task in TASKS]
    assert [s.p_adjusted for s in by_task] == holm([s.p for s in by_task])
    within = [shifts["overall"] for _, shifts in change.by_generator.values()]
    assert [s.p_adjusted for s in within] == holm([s.p for s in within])
    both_prompts = change.tasks["overall"]
    assert (both_prompts.n, both_prompts.units) == (120, 60)


def test_the_same_run_has_not_changed() -> None:
    table, _ = corpus({"a": 3.0, "b": 3.5})
    change = compare(table, table)
    assert change.same_content == len(change.ids) == 16
    assert change.fell == change.rose == []
    for shift in change.tasks.values():
        assert (shift.difference, shift.p, shift.significant) == (0.0, 1.0, False)
        assert shift.reason == "every difference is 0"


def test_too_few_units_say_that_they_can_never_tell() -> None:
    before, after = run({f"a/{i}": 4.0 for i in range(6)}), run({f"a/{i}": 2.0 for i in range(6)})
    # Five tasks of 6 units: 5 * 2 / 2^6 is above 0.05; one generator in a task is one test.
    change = compare(after, before)
    assert change.tasks["overall"].reason == "6 units cannot give a corrected p below 0.16"
    alone = change.by_generator["a"][1]["overall"]
    assert (alone.significant, alone.reason) == (True, None)
    one = compare(run({"a/1": 2.0}), before).tasks["overall"].reason
    assert "one cluster" in str(one)
    assert "units cannot" not in str(one)


def test_scores_that_are_gone_are_counted() -> None:
    before = run({f"a/{i}": 3.0 for i in range(6)})
    after = videos(video(f"a/{i}", generator="a", score=2.0, has_sound=i > 1) for i in range(6))
    change = compare(after, before)
    assert (change.tasks["lip_sync"].n, change.tasks["lip_sync"].lost) == (4, 2)
    assert compare(before, after).tasks["lip_sync"].gained == 2
    silent = compare(run({"a/1": 3.0}, has_sound=False), before)
    assert silent.tasks["lip_sync"].difference is None
    assert silent.tasks["lip_sync"].reason == "no video has a score in both runs"


def test_a_video_without_overall_moves_by_its_other_scores() -> None:
    before = run({"a/1": 3.0, "a/2": 3.0})
    after = videos([video("a/1", generator="a", score=2.0, overall=None), video("a/2", score=3.0)])
    assert [(m.video_id, m.difference) for m in compare(after, before).fell] == [("a/1", -1.0)]


def test_a_new_version_of_a_generator_has_other_content() -> None:
    before = run({"a/1": 3.0, "a/2": 3.0}, source_version="v1")
    after = run({"a/1": 3.0, "a/2": 3.0}, source_version="v2")
    assert compare(after, before).same_content == 0


def test_other_videos_are_refused() -> None:
    with pytest.raises(ScoreInputError) as caught:
        compare(run({"a/1": 3.0}), run({"x/\x1b[31m7": 3.0}), uri="s3://user:secret@bucket/old")
    text = str(caught.value)
    assert "baseline of other videos" in text
    assert "such as a/1" in text
    assert r"such as x/\x1b[31m7" in text
    assert "secret" not in text
    with pytest.raises(ScoreInputError, match="of this run \\(none at all\\)"):
        check_baseline(run({"a/1": 3.0}), iter([]), "c", "old")


def test_another_checkpoint_is_refused_unless_allowed() -> None:
    before, after = run({"a/1": 3.0}, checkpoint=OTHER), run({"a/1": 4.0})
    mine = after["checkpoint"][0].as_py()
    with pytest.raises(ScoreInputError, match=f"{OTHER}.*{mine}.*other_checkpoint=true"):
        compare(after, before)
    with pytest.raises(ScoreInputError, match="not comparable"):
        check_baseline(before, iter(["a/1"]), mine, "old")
    change = compare(after, before, other_checkpoint=True)
    assert change.to_json()["checkpoints"] == {"baseline": [OTHER], "here": [mine]}
    check_baseline(before, iter(["a/1", "a/9"]), OTHER, "old")


def test_only_shared_videos_need_the_checkpoint() -> None:
    before = pa.concat_tables([run({"a/1": 3.0}), run({"a/2": 3.0}, checkpoint=OTHER)])
    assert isinstance(compare(run({"a/1": 4.0}), before), Change)


def test_two_rows_of_a_video_are_refused() -> None:
    twice = pa.concat_tables([run({"a/1": 3.0})] * 2)
    with pytest.raises(ScoreInputError, match="two rows of the video a/1"):
        compare(run({"a/1": 3.0}), twice)


# --- reading


def test_an_output_is_read_over_its_partitions(tmp_path: Path) -> None:
    table, clips = corpus({"a": 3.0, "b": 4.0})
    later = run({"a/p0": 1.5, "c/1": 2.0}, run_date="2026-02-01")
    write_output(tmp_path, pa.concat_tables([table, later]), clips)
    found = read_baseline(str(tmp_path))
    rows = {row["video_id"]: row for row in found.to_pylist()}
    assert found.num_rows == len(rows) == 17
    assert (rows["a/p0"]["overall"], rows["a/p0"]["run_date"]) == (1.5, "2026-02-01")
    assert rows["b/p0"]["run_date"] == table["run_date"][0].as_py()
    change = compare(table, found)
    assert change.tasks["overall"].n == 16
    assert change.only_there == ["c/1"]


def test_it_is_read_from_any_storage() -> None:
    import fsspec

    table, _ = corpus({"a": 3.0})
    memory = fsspec.filesystem("memory")
    with memory.open("/nights/old/videos/run_date=2026-01-31/part-0.parquet", "wb") as file:
        pq.write_table(table.drop_columns(["run_date"]), file)
    try:
        assert read_baseline("memory://nights/old").num_rows == 8
    finally:
        memory.rm("/nights", recursive=True)


def test_a_missing_baseline_says_so(tmp_path: Path) -> None:
    with pytest.raises(ScoreInputError, match=r"baseline .*/nowhere: nothing is there"):
        read_baseline(str(tmp_path / "nowhere"))
    (tmp_path / "features").mkdir()
    with pytest.raises(ScoreInputError, match=r"no table of scores .*--out"):
        read_baseline(str(tmp_path))


def part(folder: Path, table: pa.Table) -> Path:
    file = folder / "videos" / "run_date=2026-01-31" / "part-0.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(table, file)
    return file


def test_a_damaged_baseline_names_its_file(tmp_path: Path) -> None:
    file = part(tmp_path, corpus({"a": 3.0})[0])
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ScoreInputError, match=r"part-0\.parquet: damaged"):
        read_baseline(str(tmp_path))


def test_an_empty_baseline_is_refused(tmp_path: Path) -> None:
    part(tmp_path, corpus({"a": 3.0})[0].slice(0, 0))
    with pytest.raises(ScoreInputError, match="table of scores is empty"):
        read_baseline(str(tmp_path))


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    table = corpus({"a": 3.0})[0]
    part(tmp_path / "old", table.replace_schema_metadata({"talkmos.scores_version": "0"}))
    with pytest.raises(ScoreInputError, match="version 0, this code reads version 1"):
        read_baseline(str(tmp_path / "old"))
    part(tmp_path / "less", table.drop_columns(["overall"]))
    with pytest.raises(ScoreInputError, match="lacks the columns overall"):
        read_baseline(str(tmp_path / "less"))
    text = pa.array(["high"] * table.num_rows)
    column = table.schema.get_field_index("overall")
    part(tmp_path / "type", table.set_column(column, "overall", text))
    with pytest.raises(ScoreInputError, match="a column has another type"):
        read_baseline(str(tmp_path / "type"))


def test_a_flipped_bit_is_damage_and_no_score(tmp_path: Path) -> None:
    table = run({f"a/{i}": 1 + i / 1000 for i in range(200)})
    part = tmp_path / "videos" / "run_date=2026-01-31" / "part-0.parquet"
    part.parent.mkdir(parents=True)
    rows = table.drop_columns(["run_date"])
    pq.write_table(rows, part, compression="none", use_dictionary=False, write_page_checksum=True)
    assert read_baseline(str(tmp_path)).num_rows == 200
    raw = bytearray(part.read_bytes())
    place = raw.index(rows["overall"].to_numpy()[:50].tobytes())
    raw[place + 41] ^= 4
    part.write_bytes(bytes(raw))
    with pytest.raises(ScoreInputError, match="damaged"):
        read_baseline(str(tmp_path))
