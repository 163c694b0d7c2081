"""Stored features as a source of videos to score."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from actors.types import VideoRef
from pipelines.checkpoint import CheckpointError, CheckpointPeek
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.corpus import CorpusReport, iter_corpus
from pipelines.failures import FailureTable
from pipelines.leases import Failure
from pipelines.scoring.output import version_of
from pipelines.scoring.stored import FeatureShard
from pipelines.shard_index import list_shards
from pipelines.spool import CorpusError, SpooledCorpus, spool_corpus
from pipelines.storage import Store, strip_credentials

if TYPE_CHECKING:
    from pipelines.keeper import Keeper
    from pipelines.scoring.config import ScoreConfig


@dataclass(frozen=True)
class StoredFeatures:
    """A feature output that the checkpoint can read."""

    store: Store
    index: ClipIndex | None  # None: not a single video gave features
    failures: FailureTable

    @classmethod
    def at(cls, uri: str, peek: CheckpointPeek) -> "StoredFeatures":
        """Open a feature output.

        Raises:
            TrainInputError: There are no features, or they are damaged.
            CheckpointError: The checkpoint was trained on others.
        """
        store = Store.at(uri)
        failures = FailureTable.load(store)
        if len(failures) and not list_shards(store):
            return cls(store, None, failures)
        index = read_clip_index(store)
        if index.fingerprint != peek.features.fingerprint:
            raise CheckpointError(
                f"{store.display('')} holds features with the fingerprint {index.fingerprint}, but "
                f"the checkpoint {peek.where} was trained on features with the fingerprint "
                f"{peek.features.fingerprint}. Their numbers would mean something else to it: "
                "extract the videos with the checkpoint's settings and weights (leave --features "
                "away), or use a checkpoint that was trained on these features"
            )
        return cls(store, index, failures)

    def shards(self, videos: Iterable[VideoRef], keeper: "Keeper") -> list[FeatureShard]:
        """Find the videos in the shards; those that have no features are told to ``keeper``."""
        index = self.index
        place: dict[str, int] = {}
        shard_of: dict[int, int] = {}
        if index is not None:
            place = {name: i for i, name in enumerate(index.videos)}
            shard_of = dict(zip(index.video.tolist(), index.shard.tolist(), strict=True))
        wanted: dict[int, list[VideoRef]] = {}
        for ref in videos:
            video = place.get(ref.video_id)
            content = ref.version.rpartition("@")[0]
            if (
                index is None
                or video is None
                or (content and content != index.source_versions[video])
            ):
                keeper.on_failed(self._without_features(ref, known=video is not None))
                continue
            wanted.setdefault(shard_of[video], []).append(ref)
        if index is None:
            return []
        return [FeatureShard(index.shards[shard], refs) for shard, refs in sorted(wanted.items())]

    def _without_features(self, ref: VideoRef, *, known: bool) -> Failure:
        content = ref.version.rpartition("@")[0]
        if self.failures.status(ref.video_id, content) is not None:
            row = self.failures.row(ref.video_id)
            stage, reason, message = (row[name] for name in ("stage", "error_class", "message"))
            # Whatever it was: once the extraction is mended, scoring tries again by itself.
            return Failure(ref, stage, reason, message, row["attempts"], True)
        what = "features of another version of it" if known else "no features"
        message = (
            f"{self.store.display('')} has {what}: extract the corpus again, or leave --features "
            "away"
        )
        return Failure(ref, "features", "no_features", message, 1, True)


def listed_from_features(stored: StoredFeatures, key: str) -> Iterator[VideoRef]:
    """Yield the videos of a feature output, those included that failed there."""
    index = stored.index
    known: set[str] = set()
    if index is not None:
        known = set(index.videos)
        for video_id, uri, version, generator, speaker in zip(
            index.videos,
            index.uris,
            index.source_versions,
            index.generators,
            index.speakers,
            strict=True,
        ):
            yield VideoRef(video_id, uri, generator, speaker, None, version_of(version, key))
    for row in stored.failures.rows():
        if row["video_id"] not in known:
            version = version_of(row["source_version"], key)
            yield VideoRef(row["video_id"], row["uri"], version=version)


def list_videos(
    config: "ScoreConfig", stored: StoredFeatures | None, key: str
) -> tuple[SpooledCorpus, list[str]]:
    """List the corpus; a video's version is its content and what scores it.

    Returns:
        The videos, and what a person should know of the listing.

    Raises:
        CorpusError, ScoreInputError: It cannot be listed, or there is no video in it.
    """
    if not config.corpus.corpus and stored is not None:
        return spool_corpus(listed_from_features(stored, key)), []
    report = CorpusReport()
    refs = iter_corpus(config.corpus, report)
    corpus = spool_corpus(replace(ref, version=version_of(ref.version, key)) for ref in refs)
    if not corpus.count and not report.older:
        raise CorpusError(
            f"{strip_credentials(config.corpus.corpus)}: there is no video in it"
            + "".join(f"; {warning}" for warning in report.warnings())
        )
    return corpus, report.warnings()
