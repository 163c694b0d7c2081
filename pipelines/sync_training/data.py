"""Stored crops: which clips there are, which serve what, and reading them by number."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.types import U8
from pipelines.config import digest
from pipelines.hashing import hash_texts
from pipelines.shard_index import list_shards
from pipelines.storage import StorageError, Store
from pipelines.sync_training.config import SyncSplitConfig
from pipelines.sync_training.crops import FOLDER
from pipelines.sync_training.errors import SyncInputError
from pipelines.uris import display_text

I64 = NDArray[np.int64]
COLUMNS = [
    "video_id", "speaker", "clip_index", "windows", "run", "face", "fingerprint", "content",
]  # fmt: skip


@dataclass(frozen=True)
class CropIndex:
    """All clips of an output, by (video, clip): C clips of V videos.

    Attributes:
        shards: Names of the shards.
        place: [C, 3] shard, row group, row in it.
        videos: [V] ids, sorted.
        speakers: [V] None where not known.
        video: [C] which video.
        windows: [C] windows of the measure.
        run: [C] most windows in a row whose frames all have a face.
        face: Side of the crops, pixels.
        digest: Of the content of all clips, 16 hex digits.
    """

    shards: tuple[str, ...]
    place: I64
    videos: tuple[str, ...]
    speakers: tuple[str | None, ...]
    video: I64
    windows: I64
    run: I64
    face: int
    digest: str

    def __len__(self) -> int:
        return len(self.video)


def read_index(store: Store) -> CropIndex:
    """Read what crops an output has, without the crops.

    Raises:
        SyncInputError: There are none, or they are not of one kind.
        StorageError: A shard is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[tuple[Any, ...]] = []
    shards = [info.name for info in list_shards(store, FOLDER)]
    for number, name in enumerate(shards):
        try:
            with store.open(name) as file:
                source = pq.ParquetFile(file)
                for group in range(source.num_row_groups):
                    table = source.read_row_group(group, columns=COLUMNS)
                    columns = [table[name].to_pylist() for name in COLUMNS]
                    for row, values in enumerate(zip(*columns, strict=True)):
                        rows.append((*values, number, group, row))
        except (pa.ArrowInvalid, OSError) as error:
            raise StorageError(
                f"{store.display(name)} is not a whole shard ({error}): remove it and start again"
            ) from error
    if not rows:
        raise SyncInputError(
            f"{store.display('')} has no face crops below {FOLDER}: no video gave any"
        )
    faces, prints = {r[5] for r in rows}, {r[6] for r in rows}
    if len(faces) > 1 or len(prints) > 1:
        raise SyncInputError(
            f"{store.display(FOLDER)} mixes crops of different settings: make them again into "
            "another --out"
        )
    rows.sort(key=lambda r: (r[0], r[2]))
    videos, index_face = sorted({r[0] for r in rows}), int(faces.pop())
    number_of = {name: i for i, name in enumerate(videos)}
    speaker_of = {r[0]: r[1] for r in rows}
    contents = [(r[0], r[2], r[7]) for r in rows]
    return CropIndex(
        shards=tuple(shards),
        place=np.array([r[8:] for r in rows], np.int64),
        videos=tuple(videos),
        speakers=tuple(speaker_of[name] or None for name in videos),
        video=np.array([number_of[r[0]] for r in rows], np.int64),
        windows=np.array([r[3] for r in rows], np.int64),
        run=np.array([r[4] for r in rows], np.int64),
        face=index_face,
        digest=digest({"face": index_face, "clips": contents}),
    )


@dataclass(frozen=True)
class SyncSplit:
    """Which clips serve what.

    Attributes:
        by: What stays on one side: speaker or video.
        group: [V] its name.
        train: Clips that are learned from.
        val: Clips that validate.
        short: Clips too short for an excerpt, or for validation, which take no part.
        told: What a person should know, sentences.
    """

    by: str
    group: tuple[str, ...]
    train: I64
    val: I64
    short: int
    told: tuple[str, ...]


def split(
    index: CropIndex, config: SyncSplitConfig, *, windows: int, val_windows: int
) -> SyncSplit:
    """Tell clips into those that are learned from and those that validate.

    Args:
        index: All clips.
        config: How.
        windows: Of an excerpt: clips without such a run with a face are not learned from.
        val_windows: Least of a clip that validates.

    Raises:
        SyncInputError: Fewer than two videos to learn from (there would be no foreign sound), none
            to validate with, a name that does not exist, or speakers that are not known.
    """
    known = all(index.speakers)
    by = config.by
    if by == "auto":
        by = "speaker" if known and len({*index.speakers}) > 1 else "video"
    if by == "speaker" and not known:
        lacking = index.videos[index.speakers.index(None)]
        raise SyncInputError(
            f"split.by: speaker, and {display_text(lacking)} has none: name speakers in the "
            "manifest or with --pattern, or choose split.by=video"
        )
    group = tuple(str(s) for s in index.speakers) if by == "speaker" else index.videos
    names = sorted({*group})
    for name in (*config.val, *config.left_out):
        if name not in names:
            some = ", ".join(display_text(n, 40) for n in names[:10])
            raise SyncInputError(
                f"split: there is no {by} {display_text(name, 40)} with usable clips; there are: "
                f"{some}"
            )
    rest = [name for name in names if name not in config.left_out]
    val = {*config.val} or _by_hash(rest, config)
    learned = {*rest} - val
    side = np.array([1 if g in val else 0 if g in learned else -1 for g in group])[index.video]
    train = np.flatnonzero((side == 0) & (index.run >= windows))
    validate = np.flatnonzero((side == 1) & (index.windows >= val_windows))
    short = int((side >= 0).sum()) - len(train) - len(validate)
    facts = f"of {len(index.videos)} with usable clips, split by {by}, {short} clips too short"
    count = len(np.unique(index.video[train]))
    if count < 2:
        raise SyncInputError(
            f"too few videos: {count} to learn from ({facts}), and at least 2 are needed, or there "
            "is no foreign sound. Give more videos, or another split (split.by, split.val)"
        )
    if not len(validate):
        raise SyncInputError(
            f"no video to validate with ({facts}): give more or longer videos, or another split "
            "(split.by, split.share, split.val)"
        )
    told = [
        (
            f"{len(train)} clips of {len(np.unique(index.video[train]))} videos to learn from, "
            f"{len(validate)} of {len(np.unique(index.video[validate]))} to validate, split by {by}"
        )
    ]
    if short:
        told.append(f"{short} clips are too short to take part")
    return SyncSplit(by, group, train, validate, short, tuple(told))


def _by_hash(names: Sequence[str], config: SyncSplitConfig) -> set[str]:
    """Choose the groups with the smallest hashes: a share of them, at least one."""
    keys = hash_texts(f"{config.salt}\x00{name}" for name in names)
    count = max(1, round(config.share * len(names)))
    return {names[i] for i in np.argsort(keys, kind="stable")[:count]}


# --- reading


@dataclass(frozen=True, slots=True)
class Clip:
    """A stored clip.

    Attributes:
        crops: [k, face, face, 3] RGB.
        index: [frames] which crop shows, -1 for none.
        sound: [samples] int16, 16 kHz.
    """

    crops: U8
    index: NDArray[np.int16]
    sound: NDArray[np.int16]


class Clips(Protocol):
    """Where clips come from."""

    def read(self, number: int) -> Clip:
        """Return a clip by its number."""
        ...


class StoredClips:
    """Clips of an output by number; what was read stays in memory while the budget lasts.

    Args:
        store: With the shards.
        index: Of all its clips.
        cache_mib: The budget.
    """

    def __init__(self, store: Store, index: CropIndex, cache_mib: int) -> None:
        self._store, self._index, self._budget = store, index, cache_mib * 2**20
        self._groups: OrderedDict[tuple[int, int], list[Clip]] = OrderedDict()
        self._bytes = 0

    def read(self, number: int) -> Clip:
        """Return a clip.

        Raises:
            StorageError: Its shard cannot be read.
        """
        shard, group, row = (int(n) for n in self._index.place[number])
        key = (shard, group)
        if key in self._groups:
            self._groups.move_to_end(key)
        else:
            clips = self._load(shard, group)
            self._groups[key] = clips
            self._bytes += _size(clips)
            while self._bytes > self._budget and len(self._groups) > 1:
                self._bytes -= _size(self._groups.popitem(last=False)[1])
        return self._groups[key][row]

    def _load(self, shard: int, group: int) -> list[Clip]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        name, face = self._index.shards[shard], self._index.face
        try:
            with self._store.open(name) as file:
                source = pq.ParquetFile(file, page_checksum_verification=True)
                table = source.read_row_group(group, columns=["crops", "index", "sound"])
        except (pa.ArrowInvalid, OSError) as error:
            raise StorageError(f"{self._store.display(name)} cannot be read: {error}") from error
        return [
            Clip(
                np.frombuffer(crops, np.uint8).reshape(-1, face, face, 3),
                np.array(index, np.int16),
                np.frombuffer(sound, "<i2").astype(np.int16),
            )
            for crops, index, sound in zip(
                *(table[name].to_pylist() for name in ("crops", "index", "sound")), strict=True
            )
        ]


def _size(clips: list[Clip]) -> int:
    return sum(c.crops.nbytes + c.sound.nbytes for c in clips)


def order(clips: I64, index: CropIndex, *, groups: int, seed: int, passed: int) -> I64:
    """Return the clips in the order of one pass: row groups shuffled, then clips within a few.

    A function of its arguments alone. Clips that are read together come near each other, and those
    of one video still apart.

    Args:
        clips: Numbers of clips.
        index: Where they lie.
        groups: Row groups whose clips are mixed.
        seed: Of the run.
        passed: Passes over all clips before this one.
    """
    rng = np.random.default_rng([seed, passed, 0x0D])
    keys = index.place[clips, 0] * (int(index.place[:, 1].max()) + 1) + index.place[clips, 1]
    present = rng.permutation(np.unique(keys))
    rank = np.empty(int(keys.max()) + 1, np.int64)
    rank[present] = np.arange(len(present))
    block = rank[keys] // groups
    return clips[np.lexsort((rng.random(len(clips)), block))]
