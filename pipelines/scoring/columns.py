"""The two tables of scores: every column, its type and meaning, written once.

``clips/run_date=…/part-….parquet`` has one row a clip, ``videos/run_date=…/part-….parquet`` one row
a video; a part of either holds all clips of its videos. Scores are on [1, 5]; a missing number is
null, and ``<task>_reason`` of the video says why.
"""

from typing import TYPE_CHECKING

from actors.descriptors import DESCRIPTOR_FIELDS
from actors.faces import FACE_FIELDS
from model.tasks import TASKS

if TYPE_CHECKING:
    import pyarrow as pa

SCORES_VERSION = 1
CURVE_HZ = 5.0  # values a second in ``curves``

IDENTITY = {
    "video_id": "string",
    "uri": "string",  # credentials stripped
    "source_version": "string",  # of the video's content: ETag, or size and modification time
    "generator": "string",  # null when unknown
    "speaker": "string",  # null when unknown
}
SYNC = {
    "sync_score": "float",  # [0, 5]
    "sync_offset": "float",  # frames of 40 ms, > 0: sound leads
    "sync_confidence": "float",  # LSE-C
    "sync_distance": "float",  # LSE-D
}
NOVELTY = {
    "ood_distance": "float",  # of the embedding to the training set; 1 is the threshold
    "ood": "bool",  # null when the checkpoint does not know
}
PROVENANCE = {
    "score_key": "string",  # digest of checkpoint, features and settings: what made the row
    "checkpoint": "string",  # digest
    "fingerprint": "string",  # of the features
    "code_version": "string",
    "demonstration": "bool",  # weights for demonstrations: no meaning for real quality
}
CLIP = {
    "clip_index": "int32",
    "start_s": "double",
    "end_s": "double",
    "frames": "int32",  # valid frames: the weight of the clip in its video
    "face_frames": "int32",  # of them with the main face
    "has_sound": "bool",
}
VIDEO = {
    "clips": "int32",
    "frames": "int32",
    "face_frames": "int32",
    "has_sound": "bool",
    "start_s": "double",  # of the first clip
    "end_s": "double",  # of the last clip
    # The clip with the lowest overall score (or the lowest mean of those it has).
    "worst_start_s": "double",
    "worst_end_s": "double",
    "worst_score": "double",
    # findings in words, most severe first
    "cause": "string",
}


def _finding() -> "pa.DataType":
    import pyarrow as pa

    return pa.struct(
        [
            ("kind", pa.string()),  # of actors.findings.KINDS
            ("start_s", pa.float64()),  # in the video
            ("end_s", pa.float64()),
            ("value", pa.float32()),  # in the unit of its kind
            ("severity", pa.float32()),  # [0, 1]
            ("text", pa.string()),  # in words, with the value, without the times
        ]
    )


def _fields(columns: dict[str, str]) -> "list[pa.Field]":
    import pyarrow as pa

    return [pa.field(name, pa.type_for_alias(kind)) for name, kind in columns.items()]


def _struct(columns: dict[str, str]) -> "pa.DataType":
    import pyarrow as pa

    return pa.struct([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])


def clip_schema() -> "pa.Schema":
    """Return the schema of the table of clips."""
    import pyarrow as pa

    curve = pa.list_(pa.float32())
    return pa.schema(
        [
            *_fields({**IDENTITY, **CLIP}),
            *(pa.field(task, pa.float32()) for task in TASKS),
            *_fields(SYNC),
            pa.field("sync_reason", pa.string()),
            *_fields(NOVELTY),
            pa.field("descriptors", _struct(DESCRIPTOR_FIELDS)),
            pa.field("faces", _struct(FACE_FIELDS)),
            pa.field("findings", pa.list_(_finding())),
            # CURVE_HZ values a second from the clip's start: lip opening in eye distances,
            # loudness in dBFS; null without a face, without sound
            pa.field("curves", pa.struct([("lip_opening", curve), ("loudness", curve)])),
            *_fields(PROVENANCE),
        ],
        metadata={b"talkmos.scores_version": str(SCORES_VERSION).encode()},
    )


def video_schema() -> "pa.Schema":
    """Return the schema of the table of videos.

    ``<task>`` is the mean over clips by valid frames, ``<task>_low`` and ``<task>_high`` bound its
    calibrated interval, ``<task>_reason`` says why there is no score. Descriptors and sync measures
    are means over clips by valid frames, of the clips that have them.
    """
    import pyarrow as pa

    scores = [
        pa.field(f"{task}{end}", pa.string() if end == "_reason" else pa.float32())
        for task in TASKS
        for end in ("", "_low", "_high", "_reason")
    ]
    return pa.schema(
        [
            *_fields({**IDENTITY, **VIDEO}),
            *scores,
            *_fields(SYNC),
            *_fields(NOVELTY),
            pa.field("descriptors", _struct(DESCRIPTOR_FIELDS)),
            pa.field("faces", _struct(FACE_FIELDS)),
            pa.field("findings", pa.list_(_finding())),
            *_fields(PROVENANCE),
        ],
        metadata={b"talkmos.scores_version": str(SCORES_VERSION).encode()},
    )
