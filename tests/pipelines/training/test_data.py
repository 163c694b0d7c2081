"""From features and labels to numbered clips: weights, silence, where rows lie, what is chosen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.tasks import NEED_SOUND, TASKS
from model.training_config import TrainingConfig
from pipelines.train_errors import TrainInputError
from pipelines.training.cleaning import CleaningConfig
from pipelines.training.data import TrainData, candidates, resolve_monitor, training_data
from pipelines.training.labels import LabelsConfig
from pipelines.training.splits import SplitsConfig
from tests.pipelines.training.train_corpus import write_features

BY_PART = SplitsConfig(by="column", column="part")
PARTS = ["train"] * 6 + ["val"] * 3 + ["test"] * 3


class Corpus:
    def __init__(self, folder: Path, silent_clips: tuple[int, ...] = ()) -> None:
        self.folder = folder
        self.features = folder / "features"
        self.labels = write_features(
            self.features, videos=12, clips=3, shards=2, silent=(1, 7), silent_clips=silent_clips
        )
        self.labels["part"] = PARTS

    def data(
        self,
        change: Callable[[pd.DataFrame], object] = lambda _: None,
        splits: SplitsConfig = BY_PART,
        cleaning: CleaningConfig | None = None,
        **labels: Any,
    ) -> TrainData:
        table = self.labels.copy()
        change(table)
        path = self.folder / "labels.csv"
        table.to_csv(path, index=False)
        told: list[str] = []
        config = LabelsConfig(labels=str(path), **labels)
        found = candidates(str(self.features), config, cleaning or CleaningConfig(), told.append)
        assert len(told) == 2
        return training_data(found, splits)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("data"))


def by_video(data: TrainData, values: Any) -> dict[str, Any]:
    """What the clips of each video have."""
    found: dict[str, Any] = {}
    for number, value in enumerate(values):
        found.setdefault(data.index.videos[data.labels.video[number]], []).append(value)
    return {name: np.array(rows) for name, rows in found.items()}


def test_every_clip_trains_with_its_videos_label_at_one_clips_share(corpus: Corpus) -> None:
    data = corpus.data()
    assert len(data.clips) == 36
    labels = corpus.labels.set_index("video_id")
    weights, values = by_video(data, data.labels.weight), by_video(data, data.labels.values)
    for name, row in labels.iterrows():
        for n, task in enumerate(TASKS):
            known = values[name][:, n]
            if not np.isnan(known).all():
                assert known == pytest.approx([row[task]] * 3)
                assert weights[name][:, n] == pytest.approx([1 / 3] * 3)
    splits = by_video(data, data.labels.split)
    assert {name: set(s.tolist()) for name, s in splits.items()} == {
        name: {("train", "val", "test").index(part)}
        for name, part in labels.part.items()
    }  # fmt: skip


def test_silent_clips_have_no_label_for_what_needs_sound(corpus: Corpus) -> None:
    data = corpus.data()
    values = by_video(data, data.labels.values)
    for v, name in enumerate(corpus.labels.video_id):
        for n, task in enumerate(TASKS):
            unheard = v in (1, 7) and task in NEED_SOUND
            assert np.isnan(values[name][:, n]).all() == unheard


def test_clips_that_can_be_judged_share_the_weight(tmp_path: Path) -> None:
    """The first clip of a video has sound, the others have none: it counts for all of them."""
    corpus = Corpus(tmp_path, silent_clips=(1, 2))
    data = corpus.data()
    known = ~np.isnan(data.labels.values)
    for n, task in enumerate(TASKS):
        heard = by_video(data, np.where(known[:, n], data.labels.weight[:, n], 0))
        for v, name in enumerate(corpus.labels.video_id):
            silent = v in (1, 7) and task in NEED_SOUND
            expected = [0, 0, 0] if silent else [1, 0, 0] if task in NEED_SOUND else [1 / 3] * 3
            assert heard[name] == pytest.approx(expected), (name, task)


def test_weights_of_raters_come_on_top(corpus: Corpus) -> None:
    counts = np.arange(1.0, 13)

    def raters(table: pd.DataFrame) -> None:
        table["overall_n"] = counts

    data = corpus.data(raters, weight_by="raters")
    found = by_video(data, data.labels.weight[:, TASKS.index("overall")])
    total = np.array([found[name].sum() for name in corpus.labels.video_id])
    np.testing.assert_allclose(total, counts / counts.mean(), rtol=1e-6)
    others = data.labels.weight[~np.isnan(data.labels.values[:, 0]), 0]
    np.testing.assert_allclose(others, 1 / 3)


def test_clips_that_cleaning_drops_share_nothing(corpus: Corpus) -> None:
    # The third clip of each video has the fewest real frames, but all last six seconds.
    index = corpus.data().index
    data = corpus.data(cleaning=CleaningConfig(min_clip_s=6.0))
    assert len(data.clips) == 36
    assert len(index) == 36
    with pytest.raises(TrainInputError, match="dropped all 36 clips"):
        corpus.data(cleaning=CleaningConfig(min_clip_s=6.5))


@pytest.mark.parametrize("split", [None, "train", "val", "test"])
def test_where_the_rows_of_clips_lie(corpus: Corpus, split: str | None) -> None:
    data = corpus.data()
    shards, numbers = data.shard_rows(split)
    expected = np.arange(36) if split is None else data.labels.of(split)
    assert sorted(np.concatenate(numbers).tolist()) == expected.tolist()
    assert len({s.name for s in shards}) == len(shards)
    for shard, clips in zip(shards, numbers, strict=True):
        assert (np.diff(shard.rows) > 0).all()  # in the order in which they are read
        table = pd.read_parquet(
            corpus.features / shard.name, columns=["video_id", "clip_index"]
        ).iloc[shard.rows]
        at = data.clips[clips]
        assert [data.index.videos[v] for v in data.index.video[at]] == list(table.video_id)
        assert list(data.index.clip_index[at]) == list(table.clip_index)


def test_the_digest_is_of_what_is_trained_on(corpus: Corpus) -> None:
    def other_part(table: pd.DataFrame) -> None:
        table.loc[0, "part"], table.loc[8, "part"] = "val", "train"

    def other_label(table: pd.DataFrame) -> None:
        table.loc[0, "overall"] = 1.5

    first = corpus.data().digest
    assert corpus.data().digest == first
    assert corpus.data(other_part).digest != first
    assert corpus.data(other_label).digest != first


def test_only_silent_videos_to_train_on(corpus: Corpus) -> None:
    def change(table: pd.DataFrame) -> None:
        table["part"] = ["val", "train", *["val", "test"] * 5]
        table.loc[1, [t for t in TASKS if t not in NEED_SOUND]] = np.nan

    with pytest.raises(TrainInputError, match="have no sound to judge them by"):
        corpus.data(change)


# --- what chooses the checkpoint


def monitors(data: TrainData, **training: Any) -> tuple[str, str | None]:
    return resolve_monitor(data, TrainingConfig.model_validate(training))


def test_the_monitor_is_what_was_asked_for_where_it_is_defined(corpus: Corpus) -> None:
    data = corpus.data()
    for name in ("overall", "mean", "loss"):
        assert monitors(data, monitor=name) == (name, None)


@pytest.mark.parametrize("how", ["constant", "two", "none"])
def test_an_undefined_monitor_is_replaced_and_said(corpus: Corpus, how: str) -> None:
    def change(table: pd.DataFrame) -> None:
        val = table.index[table.part == "val"]
        if how == "constant":
            table.loc[val, "overall"] = 4.0
        else:
            table.loc[val[: 1 if how == "two" else 3], "overall"] = np.nan

    data = corpus.data(change)
    name, sentence = monitors(data, monitor="overall")
    assert name == "loss"
    assert sentence is not None
    assert "PLCC of overall is undefined on the validation split" in sentence
    assert monitors(data, monitor="mean") == ("mean", None)  # the other tasks are defined


def test_a_mean_of_tasks_that_are_undefined(corpus: Corpus) -> None:
    # The silent video leaves two of three for what needs sound.
    only = {task: float(task in NEED_SOUND) for task in TASKS}
    name, sentence = monitors(corpus.data(), monitor="mean", monitor_weights=only)
    assert (name, "mean PLCC" in (sentence or "")) == ("loss", True)
    data = corpus.data()
    whole = replace(data, labels=replace(data.labels, values=data.labels.values * np.nan))
    assert monitors(whole, monitor="mean")[0] == "loss"
