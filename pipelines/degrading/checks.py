"""What is refused before anything is made: outputs of another kind, sources that are not clean."""

import json
import os

from actors.types import VideoRef
from pipelines.degrading.plan import DegradeInputError
from pipelines.degrading.processor import FOLDER, VIDEOS
from pipelines.degrading.tables import FORMAT, LABELS, MANIFEST, PLAN
from pipelines.paths import storable
from pipelines.shard_index import list_shards
from pipelines.storage import Store
from pipelines.uris import display_text, scheme_of, strip_credentials


def check_output(store: Store, corpus: str, *, virtual: bool) -> None:
    """Refuse an output that is something else.

    Raises:
        DegradeInputError: It holds something else, or the other kind of corpus; or its videos would
            be sources of the next run.
    """
    if corpus and not virtual:
        base = corpus.rstrip("/") if scheme_of(corpus) else os.path.abspath(corpus)  # noqa: PTH100
        below = store.raw_uri.removeprefix(f"{base}/").split("/")
        inside = store.raw_uri.startswith(f"{base}/") and not any(p[:1] in "._" for p in below)
        if inside or store.raw_uri == base:
            raise DegradeInputError(
                f"{store.display('')} lies in the corpus: the next run would take what this one "
                "makes for clean videos. Choose another --out"
            )
    if store.exists("run.json"):
        raise DegradeInputError(
            f"{store.display('')} holds features, scores or a training run: choose another --out"
        )
    if not store.exists(PLAN):
        for name in (MANIFEST, LABELS):
            if store.exists(name):
                raise DegradeInputError(
                    f"{store.display(name)} is there already, and not of this command: choose "
                    "another --out, or move it away"
                )
        if virtual and list_shards(store, FOLDER):
            raise DegradeInputError(
                f"{store.display('')} holds a stored corpus that is not finished, and this run "
                "would make a virtual one: choose another --out"
            )
        return
    try:
        record = json.loads(store.read_bytes(PLAN))
        known = record["format"] == FORMAT
        was_virtual = bool(record["virtual"])
    except (ValueError, KeyError, TypeError):
        known = was_virtual = False
    if not known:
        raise DegradeInputError(
            f"{store.display(PLAN)} is damaged or not ours: choose another --out, or remove it"
        )
    if was_virtual != virtual:
        kinds = ("virtual", "stored") if was_virtual else ("stored", "virtual")
        raise DegradeInputError(
            f"{store.display('')} holds a {kinds[0]} corpus, and this run would make a {kinds[1]} "
            "one: choose another --out"
        )


def check_sources(store: Store, sources: list[VideoRef], *, virtual: bool) -> None:
    """Refuse sources that are themselves made, or that no manifest can name.

    Raises:
        DegradeInputError: Names one.
    """
    for ref in sources:
        if ref.artefacts:
            raise DegradeInputError(
                f"{display_text(ref.video_id)} is itself a virtual variant: degrade clean videos"
            )
        if not virtual and ref.uri.startswith(f"{store.raw_uri}/{VIDEOS}"):
            raise DegradeInputError(
                f"{display_text(ref.video_id)} lies among the videos of --out: give the clean "
                "videos alone as --corpus"
            )
        if virtual and ref.uri != storable(ref.uri):
            raise DegradeInputError(
                f"the name of {display_text(ref.video_id)} is not UTF-8, so no manifest can hold "
                "it: rename the file, or make a stored corpus"
            )
        if virtual and scheme_of(ref.uri) and ref.uri != strip_credentials(ref.uri):
            raise DegradeInputError(
                f"the address of {display_text(ref.video_id)} is a signed link, or holds a "
                "password or a query, which no manifest may keep: give plain addresses, such as "
                "s3://…, or make a stored corpus"
            )
