"""Which label belongs to which video of the features."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.tasks import TASKS
from pipelines.clip_index import ClipIndex
from pipelines.paths import stem_of
from pipelines.train_errors import TrainInputError
from pipelines.training.label_file import plain_uri
from pipelines.training.labels import LabelTable
from pipelines.training.variant_columns import SOURCE
from pipelines.uris import display_text

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]
Bool: TypeAlias = NDArray[np.bool_]

_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class LabelledVideos:
    """Features and labels together: everything a video, in the order of ``index.videos``.

    V videos of the features, N = 5 tasks in the order of :data:`model.tasks.TASKS`.

    Attributes:
        index: The features.
        labels: The label table.
        label: [V] position in the label table, -1 without a row there.
        values: [V, N] scores in [1, 5], NaN where missing.
        weights: [V, N] what a label counts for beside 1 / clips; arbitrary where missing.
        generators: [V] from the label table where it says so, otherwise from the features.
        speakers: [V] likewise.
        unmatched: Keys of label rows without features, in the order of the table.
        warnings: What a person should know, a sentence each.
    """

    index: ClipIndex
    labels: LabelTable
    label: I64
    values: F64
    weights: F64
    generators: list[str | None]
    speakers: list[str | None]
    unmatched: list[str]
    warnings: tuple[str, ...] = ()

    @property
    def labelled(self) -> Bool:
        """[V] bool, the video has a score in at least one task."""
        return np.asarray(~np.isnan(self.values).all(axis=1))

    @property
    def sources(self) -> list[str | None]:
        """[V] the clean video that each was made of, as a column of the label table says."""
        return self._of_labels(SOURCE) if SOURCE in self.labels.extra else [None] * len(self.label)

    @property
    def errors(self) -> F64:
        """[V, N] standard errors of the scores, NaN where unknown."""
        return np.where(self.label[:, None] >= 0, self.labels.errors[self.label], np.nan)

    def column(self, name: str) -> list[str | None] | None:
        """Return a column of text for each video, None when neither table nor features have it."""
        if name in self.labels.extra:
            return self._of_labels(name)
        from_features: dict[str, list[str | None]] = {
            "generator": self.generators,
            "speaker": self.speakers,
            "uri": list(self.index.uris),
        }
        return from_features.get(name)

    def _of_labels(self, name: str) -> list[str | None]:
        cells = self.labels.extra[name]
        return [cells[at] if at >= 0 else None for at in self.label.tolist()]


def match(labels: LabelTable, index: ClipIndex) -> LabelledVideos:
    """Find the label row of each video, by id or by address.

    Raises:
        TrainInputError: Every label is missing, or no label row belongs to a video of the features.
    """
    if np.isnan(labels.values).all():
        raise TrainInputError(
            f"{labels.where}: every label is missing, in all of the {len(labels)} rows: nothing "
            "can be learned from it"
        )
    keys = index.videos if labels.by == "video_id" else [plain_uri(uri) for uri in index.uris]
    position = {key: at for at, key in enumerate(labels.keys)}
    label = np.array([position.get(key, -1) for key in keys], np.int64)
    if not (label >= 0).any():
        raise TrainInputError(_no_overlap(labels, index, keys))
    found = label >= 0
    used = np.zeros(len(labels), bool)
    used[label[found]] = True
    values = np.full((len(keys), len(TASKS)), np.nan)
    weights = np.ones_like(values)
    values[found], weights[found] = labels.values[label[found]], labels.weights[label[found]]
    names, warnings = {}, []
    for name, own in (("generator", index.generators), ("speaker", index.speakers)):
        names[name], warning = _attribute(labels, name, label, own)
        warnings += warning
    return LabelledVideos(
        index=index,
        labels=labels,
        label=label,
        values=values,
        weights=weights,
        generators=names["generator"],
        speakers=names["speaker"],
        unmatched=[labels.keys[at] for at in np.flatnonzero(~used)],
        warnings=tuple(warnings),
    )


def _attribute(
    labels: LabelTable, name: str, label: I64, own: list[str | None]
) -> tuple[list[str | None], list[str]]:
    """Return a name for each video: the label table's where it has one; and where they differ."""
    if name not in labels.extra:
        return list(own), []
    cells = labels.extra[name]
    given = [cells[at] if at >= 0 else None for at in label.tolist()]
    both = [b if a is None else a for a, b in zip(given, own, strict=True)]
    differ = sum(b is not None and a != b for a, b in zip(both, own, strict=True))
    if not differ:
        return both, []
    told = f"{differ} videos have another {name} in the label table than in the features"
    return both, [f"{told}; the label table counts"]


# --- no overlap: why


def _no_overlap(labels: LabelTable, index: ClipIndex, keys: list[str]) -> str:
    what = "video_id" if labels.by == "video_id" else "uri"
    hint = _hint(labels.keys, keys)
    if not hint and labels.by == "video_id" and set(labels.keys) & set(index.uris):
        hint = "the label table holds addresses: name its column uri"
    return (
        f"no {what} of {labels.where} is among the features of {display_text(index.uri)}\n"
        f"  labels:   {_examples(labels.keys)}\n"
        f"  features: {_examples(keys)}"
        f"{f'{chr(10)}Hint: {hint}' if hint else ''}"
    )


def _examples(keys: list[str]) -> str:
    more = " …" if len(keys) > _EXAMPLES else ""
    return ", ".join(display_text(key, 100) for key in keys[:_EXAMPLES]) + more


def _hint(labels: list[str], features: list[str]) -> str:
    """Return what would make most ids of the two sides equal, "" when nothing simple does."""
    changes: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("upper and lower case differ", str.lower),
        ("one side ends in a suffix such as .mp4, which ids of videos do not have", stem_of),
        ("one side has folders in front, the other only names", _last),
        ("one side has folders in front and a suffix", lambda key: stem_of(_last(key))),
        ("the separators of folders differ (\\ and /)", lambda key: key.replace("\\", "/")),
        ("leading zeros were lost on one side", lambda key: key.lstrip("0") or "0"),
        ("blanks at the ends differ", str.strip),
    )
    for text, change in changes:
        if _shared(map(change, labels), map(change, features)):
            return text
    return ""


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _shared(left: Iterable[str], right: Iterable[str]) -> bool:
    return not set(left).isdisjoint(right)
