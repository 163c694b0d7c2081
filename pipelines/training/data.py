"""From features and labels to the clips of a training run, everything checked before any of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.tasks import NEED_SOUND, TASKS
from model.training_config import TrainingConfig
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.config import digest
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.cleaning import CleaningConfig, CleanResult, clean
from pipelines.training.data_report import data_report
from pipelines.training.fit_share import ShardRows
from pipelines.training.labels import LabelsConfig, read_labels
from pipelines.training.matching import LabelledVideos, match
from pipelines.training.splits import Splits, SplitsConfig, assign
from pipelines.training.task import ClipLabels
from pipelines.training.variants import clip_variants

Told = Callable[[str], None]


@dataclass(frozen=True)
class Candidates:
    """What may be trained on, before it is split."""

    videos: LabelledVideos
    clean: CleanResult

    @property
    def index(self) -> ClipIndex:
        """The features."""
        return self.videos.index


@dataclass(frozen=True)
class TrainData:
    """The clips of a run, C of them, numbered in the order of (video_id, clip_index).

    Attributes:
        videos: Features and labels together.
        clean: What the cleaning rules said.
        splits: Which video is where.
        report: What ``data_report.json`` holds.
        clips: [C] position of each clip in the clip index.
        labels: Of each clip.
        digest: Of features, labels and splits together.
    """

    videos: LabelledVideos
    clean: CleanResult
    splits: Splits
    report: dict[str, Any]
    clips: NDArray[np.int64]
    labels: ClipLabels
    digest: str

    @property
    def index(self) -> ClipIndex:
        """The features."""
        return self.videos.index

    @property
    def learned(self) -> tuple[str, ...]:
        """The tasks that have a label in the training split."""
        values = self.labels.values[self.labels.of("train")]
        return tuple(t for t, v in zip(TASKS, values.T, strict=True) if not np.isnan(v).all())

    def shard_rows(
        self, split: str | None = None
    ) -> tuple[list[ShardRows], list[NDArray[np.int64]]]:
        """Return which rows of which shards hold the clips, and the numbers of these clips.

        Args:
            split: Only the clips of this split; default: all.
        """
        numbers = np.arange(len(self.clips)) if split is None else self.labels.of(split)
        return self._rows(numbers, numbers)

    @property
    def silenced(self) -> NDArray[np.int64]:
        """Numbers of the validation clips with sound: those that are judged without it as well."""
        val = self.labels.of("val")
        return val[self.index.sound_frames[self.clips[val]] > 0]

    def silenced_rows(self) -> tuple[list[ShardRows], list[NDArray[np.int64]]]:
        """Return what :meth:`shard_rows` does of :attr:`silenced`, numbered from C on."""
        own = self.silenced
        return self._rows(own, len(self.clips) + np.arange(len(own)))

    def _rows(
        self, numbers: NDArray[np.int64], told: NDArray[np.int64]
    ) -> tuple[list[ShardRows], list[NDArray[np.int64]]]:
        """Return which rows hold clips, and for each row what it is told to be."""
        index = self.index
        at = self.clips[numbers]
        order = np.lexsort((index.row[at], index.shard[at]))
        shards, rows = index.shard[at][order], index.row[at][order]
        cuts = np.flatnonzero(np.diff(shards)) + 1
        parts = zip(
            np.split(shards, cuts),
            np.split(rows, cuts),
            np.split(told[order], cuts),
            strict=True,
        )
        found = [(ShardRows(index.shards[s[0]], r), n) for s, r, n in parts if len(s)]
        return [rows_of for rows_of, _ in found], [n for _, n in found]


def candidates(
    features: str, labels: LabelsConfig, cleaning: CleaningConfig, say: Told
) -> Candidates:
    """Read features and labels, put them together and apply the cleaning rules.

    Raises:
        TrainInputError: One of them cannot be used.
        StorageError: The storage refuses or fails.
    """
    table = read_labels(labels)
    say(f"{table.where}: {len(table)} labelled videos")
    index = read_clip_index(Store.at(features))
    say(f"{index.uri}: {len(index)} clips of {len(index.videos)} videos")
    videos = match(table, index)
    return Candidates(videos, clean(videos, cleaning))


def training_data(found: Candidates, splits: SplitsConfig) -> TrainData:
    """Split the candidates and number the clips.

    Raises:
        TrainInputError: A split is empty or has no labels, or a group is unknown.
    """
    videos, cleaned, index = found.videos, found.clean, found.index
    assigned = assign(videos, cleaned, splits)
    report = data_report(videos, cleaned, assigned)
    code = np.where(assigned.used, assigned.code[index.video], -1)
    clips = np.flatnonzero(code >= 0)
    video = index.video[clips]
    silent = index.sound_frames[clips] == 0
    unheard = silent[:, None] & np.array([task in NEED_SOUND for task in TASKS])
    count = np.zeros((len(index.videos), len(TASKS)))  # clips that a task can be judged in
    np.add.at(count, video, ~unheard)
    weights = np.nan_to_num(videos.weights[video], nan=1.0) / np.maximum(count[video], 1)
    variants, told = clip_variants(videos, assigned.videos("train"), clips)
    if told is not None:
        report["variants"] = told
    error = videos.errors
    labels = ClipLabels(
        values=np.where(unheard, np.nan, videos.values[video]).astype(np.float32),
        weight=weights.astype(np.float32),
        video=video.astype(np.int64),
        frames=index.frames[clips].astype(np.int32),
        split=code[clips].astype(np.int8),
        error=None if np.isnan(error).all() else error[video].astype(np.float32),
        variants=variants,
    )
    train = labels.of("train")
    if np.isnan(labels.values[train]).all():
        raise TrainInputError(
            f"{videos.labels.where}: the training split has labels for "
            f"{' and '.join(NEED_SOUND)} only, and its clips have no sound to judge them by: "
            "nothing can be learned"
        )
    return TrainData(
        videos, cleaned, assigned, report, clips, labels, _digest(videos, assigned, clips)
    )


def _digest(videos: LabelledVideos, splits: Splits, clips: NDArray[np.int64]) -> str:
    index = videos.index
    return digest(
        {
            "fingerprint": index.fingerprint,
            "labels": videos.labels.digest,
            "videos": [
                (index.videos[v], index.source_versions[v], int(splits.code[v]))
                for v in np.unique(index.video[clips]).tolist()
            ],
            "clips": [int(i) for i in index.clip_index[clips]],
        }
    )


def resolve_monitor(data: TrainData, training: TrainingConfig) -> tuple[str, str | None]:
    """Return what can choose the checkpoint, and a sentence when it is not what was asked for.

    A correlation needs three videos with different labels in the validation split.
    """
    clips = data.labels.of("val")
    _, values = data.labels.per_video(clips, np.zeros((len(clips), len(TASKS))))
    usable = {}
    for column, task in zip(values.T, TASKS, strict=True):
        known = column[~np.isnan(column)]
        usable[task] = len(known) >= 3 and float(np.ptp(known)) > 0
    if training.monitor == "overall" and not usable["overall"]:
        return "loss", _other_monitor("the PLCC of overall")
    weighted = [t for t in TASKS if usable[t] and training.monitor_weights.get(t, 1.0) > 0]
    if training.monitor == "mean" and not weighted:
        return "loss", _other_monitor("the mean PLCC")
    return training.monitor, None


def _other_monitor(wanted: str) -> str:
    return (
        f"the checkpoint is chosen by the validation loss: {wanted} is undefined on the validation "
        "split (it takes three videos with labels that differ)"
    )
