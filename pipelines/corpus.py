"""From a folder, glob, bucket prefix, single file or manifest to a stream of VideoRefs."""

import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator

from actors.artefacts.chain import Chain, Step, chain_digest, chain_text, parse_chain
from actors.types import VideoRef
from model.config import Config
from pipelines.corpus_report import CorpusReport
from pipelines.filesystems import modified_of, version_of
from pipelines.manifest import MANIFEST_SUFFIXES, Record, read_manifest, text_of, time_of
from pipelines.paths import (
    MAGIC,
    NAMES,
    compile_glob,
    compile_pattern,
    id_of,
    split_glob,
    stem_of,
    storable,
    suffix_of,
)
from pipelines.since import since_timestamp
from pipelines.spool import CorpusError, SpooledCorpus, spool_corpus
from pipelines.storage import ObjectInfo, Store
from pipelines.uris import display_text, relative_id, scheme_of

__all__ = [
    "CorpusConfig", "CorpusError", "CorpusReport", "SpooledCorpus", "iter_corpus", "spool_corpus",
]  # fmt: skip


class CorpusConfig(Config):
    """Which videos to read."""

    corpus: str = ""
    """Folder, glob, bucket prefix, single video, or manifest (.csv, .jsonl, .parquet)."""
    pattern: str | None = None
    """Path pattern below the corpus root that names generator and speaker, such as
    ``{generator}/{speaker}.mp4``; ``*`` matches within a folder, ``**`` across folders. None:
    both stay empty."""
    suffixes: tuple[str, ...] = Field(
        default=("mp4", "mov", "mkv", "webm", "avi", "m4v", "mpg", "ts", "flv", "ogv", "wmv"),
        min_length=1,
    )
    """File name suffixes, without the dot and in lower case, that count as videos. Manifests may
    name any file."""
    uri_column: str = "uri"
    """Manifest column of the video's address; relative ones start at the manifest's folder."""
    id_column: str = "video_id"
    """Manifest column of the video's id; where empty, the path relative to the manifest's folder
    without suffix."""
    generator_column: str = "generator"
    """Manifest column of the generator."""
    speaker_column: str = "speaker"
    """Manifest column of the speaker."""
    version_column: str = "version"
    """Manifest column that changes when the video does. Without it local files are looked at, and
    remote ones count as unchanged."""
    source_column: str = "source"
    """Manifest column of the clean video that this one is a variant of. Variants of one source that
    follow each other go to one worker, which does what they share only once."""
    artefacts_column: str = "artefacts"
    """Manifest column of the artefacts that are applied at decode, as jobs/degrade.py writes it."""
    modified_column: str = "modified"
    """Manifest column of the time at which the video was modified (ISO 8601, UTC unless it names a
    zone; or seconds since 1970), for ``since``. Without it local files are looked at."""
    since: str | None = None
    """Only videos modified at this time or later: ISO 8601 date or time (UTC unless it names a
    zone), or an age before now such as 90min, 36h, 7d, 2w. A video whose time is unknown is read,
    and counted. None: all."""

    @field_validator("suffixes")
    @classmethod
    def _plain_suffixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(suffix.lower().lstrip(".") for suffix in value)

    @field_validator("since", mode="before")
    @classmethod
    def _readable_time(cls, value: object) -> object:
        if isinstance(value, dt.date):  # YAML makes one of an unquoted date
            value = value.isoformat()
        if isinstance(value, str):
            since_timestamp(value)
        return value

    @field_validator("pattern")
    @classmethod
    def _known_names(cls, value: str | None) -> str | None:
        if value is not None:
            compile_pattern(value)
        return value


def iter_corpus(config: CorpusConfig, report: CorpusReport | None = None) -> Iterator[VideoRef]:
    """List the videos of a corpus one by one; memory does not grow with their number.

    Files and folders whose names begin with ``.`` or ``_`` are left out. On a local disk the order
    is that of the names within each folder.

    Raises:
        CorpusError: The corpus does not exist, or a manifest's row is wrong.
        StorageError: The storage refuses or fails.
    """
    if not config.corpus:
        raise CorpusError("no corpus was given: name a folder, glob, bucket prefix or manifest")
    seen = report or CorpusReport()
    if config.since is not None:
        seen.since = since_timestamp(config.since)
    matcher = _Matcher(config, seen)
    corpus = config.corpus
    if not scheme_of(corpus):
        corpus = os.path.abspath(corpus)  # noqa: PTH100 - Path would resolve nothing else
    if _is_manifest(corpus):
        yield from _from_manifest(config, corpus, matcher)
        return
    exists_as_named = not scheme_of(corpus) and Path(corpus).exists()
    wanted = None
    if MAGIC.search(corpus.split("://")[-1]) and not exists_as_named:
        corpus, wanted = split_glob(corpus)
    store = Store.at(corpus)
    single = None if wanted else _single_file(store)
    if single is not None:
        parent, info = single
        if not seen.is_old(info.modified):
            yield matcher.ref(parent, info)
        return
    depth = None if wanted is None or "**" in wanted else wanted.count("/")
    allowed = compile_glob(wanted) if wanted is not None else None
    for info in _walk(store, depth, seen):
        if allowed is not None and not allowed.fullmatch(info.name):
            continue
        suffix = suffix_of(info.name)
        if suffix not in config.suffixes:
            seen.ignored[suffix] += 1
        elif not seen.is_old(info.modified):
            yield matcher.ref(store, info)


class _Matcher:
    """Gives a listed object its id, generator and speaker."""

    def __init__(self, config: CorpusConfig, report: CorpusReport) -> None:
        self._report = report
        self._regex = compile_pattern(config.pattern) if config.pattern else None
        self._bare = bool(config.pattern) and suffix_of(config.pattern or "") not in config.suffixes

    def is_old(self, modified: float | None) -> bool:
        """Say whether ``since`` leaves out a video of that time of modification."""
        return self._report.is_old(modified)

    def ref(self, store: Store, info: ObjectInfo) -> VideoRef:
        generator, speaker = self.names(info.name)
        uri = f"{store.raw_uri.rstrip('/')}/{info.name}"
        return VideoRef(id_of(info.name), uri, generator, speaker, info.size, info.version)

    def names(self, path: str, known: bool = False) -> tuple[str | None, str | None]:
        """Return generator and speaker by the pattern; ``known``: columns give them, no warning."""
        self._report.videos += 1
        if self._regex is None:
            return None, None
        text = storable(path)
        match = self._regex.fullmatch(stem_of(text) if self._bare else text)
        if match is None:
            if not known:
                self._report.unmatched += 1
                self._report.unmatched_example = self._report.unmatched_example or text
            return None, None
        found = match.groupdict()
        return found.get("generator"), found.get("speaker")


def _is_manifest(corpus: str) -> bool:
    if suffix_of(corpus) not in MANIFEST_SUFFIXES:
        return False
    return bool(scheme_of(corpus)) or not Path(corpus).is_dir()


def _single_file(store: Store) -> tuple[Store, ObjectInfo] | None:
    """Return the parent and the object when the corpus is one file, None when it is a folder."""
    folder, _, name = store.raw_uri.rpartition("/")
    if not store.exists(""):
        if store.is_s3:  # a prefix has no existence of its own: an empty one is the user's mistake
            raise CorpusError(
                f"{store.display('')}: nothing is there, neither an object nor a prefix"
            )
        raise CorpusError(f"{store.display('')} does not exist")
    info = store.run("look at", "", lambda: store.fs.info(store.root))
    if info["type"] == "directory":
        return None
    return Store.at(folder or "/"), ObjectInfo(
        name, int(info["size"]), version_of(info), modified_of(info)
    )


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _walk(store: Store, depth: int | None, report: CorpusReport) -> Iterator[ObjectInfo]:
    if store.is_local:
        yield from _walk_local(store.root, "", depth, (), report)
        return
    for info in store.iter_objects():
        parts = info.name.split("/")
        if any(_hidden(part) for part in parts):
            report.hidden += 1
        elif depth is None or len(parts) <= depth + 1:
            yield info


def _walk_local(
    root: str,
    below: str,
    depth: int | None,
    above: tuple[tuple[int, int], ...],
    report: CorpusReport,
) -> Iterator[ObjectInfo]:
    folder = os.path.join(root, below) if below else root  # noqa: PTH118 - keeps undecodable names
    state = Path(folder).stat()
    here = (state.st_dev, state.st_ino)
    if here in above:
        return  # a symbolic link to a folder that contains it
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        name = f"{below}/{entry.name}" if below else entry.name
        if _hidden(entry.name):
            report.hidden += 1
        elif entry.is_dir():
            if depth is None or depth > name.count("/"):
                yield from _walk_local(root, name, depth, (*above, here), report)
        elif (found := _stat(entry.path)) is not None:
            yield ObjectInfo(name, found.st_size, local_version(found), found.st_mtime)
        else:  # a link to nowhere: a failure of that video, not a gap
            yield ObjectInfo(name, 0, "")


def local_version(state: os.stat_result) -> str:
    """Return size and modification time in nanoseconds: what tells that a local file changed."""
    return f"{state.st_size}-{state.st_mtime_ns}"


def _from_manifest(config: CorpusConfig, uri: str, matcher: _Matcher) -> Iterator[VideoRef]:
    folder, _, name = uri.rpartition("/")
    store = Store.at(folder or "/")
    if not store.exists(name):
        raise CorpusError(f"the manifest {store.display(name)} does not exist")
    for record in read_manifest(store, name):
        ref = _row(config, record, folder, store.display(name), matcher)
        if ref is not None:
            yield ref


def _row(
    config: CorpusConfig, record: Record, folder: str, where: str, matcher: _Matcher
) -> VideoRef | None:
    address = text_of(record, config.uri_column, where)
    if address is None:
        have = ", ".join(display_text(str(name), 40) for name in record[1])
        raise CorpusError(
            f"{where}, row {record[0]}: no value in column {config.uri_column!r} "
            f"(the columns are: {have})"
        )
    address = _address(address, folder)
    path = relative_id(address, folder)
    given = {name: text_of(record, getattr(config, f"{name}_column"), where) for name in NAMES}
    version, size = text_of(record, config.version_column, where), None
    modified = time_of(record, config.modified_column, where) if config.since else None
    if not scheme_of(address):
        # A missing file is no error here: it becomes a failure of that video when it is opened.
        state = _stat(address)
        if state is not None:
            version, size = version or local_version(state), state.st_size
            modified = state.st_mtime if modified is None else modified
    if matcher.is_old(modified):
        return None
    generator, speaker = matcher.names(path, known=all(given.values()))
    chain = _chain(config, record, where)
    if chain is not None:  # also for no step at all: it must be told where the version ends
        chain = tuple(with_version(step, folder) for step in chain)
        version = f"{version or ''}+{chain_digest(chain)}"
    return VideoRef(
        text_of(record, config.id_column, where) or id_of(path),
        address,
        given["generator"] or generator,
        given["speaker"] or speaker,
        size,
        version or "",
        text_of(record, config.source_column, where),
        "" if chain is None else _addressed(chain, folder),
    )


def _chain(config: CorpusConfig, record: Record, where: str) -> Chain | None:
    text = text_of(record, config.artefacts_column, where)
    if text is None:
        return None
    try:
        return parse_chain(text)
    except ValueError as error:
        raise CorpusError(
            f"{where}, row {record[0]}: {config.artefacts_column}: {error} (such a manifest is "
            "written by jobs/degrade.py; an empty cell is a video without artefacts)"
        ) from None


def with_version(step: Step, folder: str) -> Step:
    """Look at a local donor as it is now; of remote ones the manifest says what they were."""
    if step.donor is None or scheme_of(address := _address(step.donor, folder)):
        return step
    state = _stat(address)
    return step if state is None else replace(step, donor_version=local_version(state))


def _addressed(chain: Chain, folder: str) -> str:
    """Return the chain's text; donors are addressed as videos are."""
    return chain_text(
        step if step.donor is None else replace(step, donor=_address(step.donor, folder))
        for step in chain
    )


def _address(address: str, folder: str) -> str:
    """Return where a manifest's address leads; relative ones start at its folder."""
    if scheme_of(address):
        return address
    if not scheme_of(folder):
        return os.path.normpath(os.path.join(folder, address))  # noqa: PTH118
    return f"{folder}/{address.lstrip('/')}"


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None
