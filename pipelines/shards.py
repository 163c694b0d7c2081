"""The shard set of an output: writing, reading, mending; the parts live in other modules."""

from pipelines.leftovers import clean_leftovers
from pipelines.reconcile import ReconcileReport, reconcile
from pipelines.shard_index import (
    CommittedShard,
    VideoEntry,
    VideoKey,
    list_shards,
    read_shard_index,
    read_shards,
)
from pipelines.shard_writer import ShardWriter

__all__ = [
    "CommittedShard",
    "ReconcileReport",
    "ShardWriter",
    "VideoEntry",
    "VideoKey",
    "clean_leftovers",
    "list_shards",
    "read_shard_index",
    "read_shards",
    "reconcile",
]
