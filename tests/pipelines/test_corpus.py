import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.types import VideoRef
from pipelines.corpus import (
    CorpusConfig,
    CorpusError,
    CorpusReport,
    iter_corpus,
    spool_corpus,
)
from pipelines.paths import compile_pattern
from pipelines.storage import Store, open_uri
from tests.pipelines.test_storage import use
from tests.s3server import s3_server

FILES = [
    "a/one.mp4",
    "a/two.MOV",
    "b/deep/three.webm",
    "b/with space & ünï 😀.mkv",
    "b/new\nline.mp4",
    "b/notes.txt",
    "b/noext",
    "b/.hidden.mp4",
    "_tmp/x.mp4",
    "top.mp4",
]
IDS = ["a/one", "a/two", "b/deep/three", "b/new\nline", "b/with space & ünï 😀", "top"]


def fill(store: Store, files: list[str]) -> None:
    for name in files:
        store.write_bytes(name, name.encode())


def listed(corpus: object, **more: object) -> list[VideoRef]:
    return list(iter_corpus(CorpusConfig(corpus=str(corpus), **more)))


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = Store.at(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")
    fill(store, FILES)
    return store


def test_a_folder_gives_its_videos(store: Store) -> None:
    report = CorpusReport()
    refs = list(iter_corpus(CorpusConfig(corpus=store.raw_uri), report))
    assert sorted(ref.video_id for ref in refs) == IDS
    for ref in refs:
        with open_uri(ref.uri) as file:
            content = file.read().decode()
        assert content.rpartition(".")[0] == ref.video_id
        assert ref.size == len(content.encode())
        assert ref.version
    assert (report.videos, report.hidden, dict(report.ignored)) == (6, 2, {"txt": 1, "": 1})
    assert "2 files are no videos" in report.warnings()[0]
    assert [r.video_id for r in listed(store.raw_uri, suffixes=("webm",))] == ["b/deep/three"]


@pytest.mark.parametrize(
    ("glob", "ids"),
    [
        ("*/*.mp4", ["a/one", "b/new\nline"]),
        ("**/*.mp4", ["a/one", "b/new\nline", "top"]),
        ("a/*", ["one", "two"]),
        ("[!a]/**/t*", ["b/deep/three"]),
        ("a/???.mp4", ["one"]),
    ],
)
def test_globs(store: Store, glob: str, ids: list[str]) -> None:
    assert sorted(ref.video_id for ref in listed(f"{store.raw_uri}/{glob}")) == ids


def test_a_single_file(store: Store) -> None:
    (ref,) = listed(f"{store.raw_uri}/b/with space & ünï 😀.mkv")
    assert ref.video_id == "with space & ünï 😀"


def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        listed(f"{store.raw_uri}/nowhere")
    with pytest.raises(CorpusError, match=r"manifest .* does not exist"):
        listed(f"{store.raw_uri}/nowhere.csv")
    with pytest.raises(CorpusError, match="no corpus was given"):
        listed("")


def test_local_listing_is_sorted_and_follows_no_circle(tmp_path: Path) -> None:
    fill(Store.at(tmp_path), FILES)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "nowhere")
    ids = [ref.video_id for ref in listed(tmp_path)]
    assert [i for i in ids if "link" not in i and i != "broken"] == IDS
    assert "link/one" in ids
    assert "broken" in ids  # fails when it is opened: it is not passed over in silence
    assert not any("again" in i for i in ids if i.startswith("a/"))


def test_undecodable_names_work(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"content")
    except OSError:
        pytest.skip("the filesystem wants UTF-8 names")
    (ref,) = list(spool_corpus(listed_lazily(tmp_path)))
    assert ref.video_id == "bad\\udcff"
    with open_uri(ref.uri) as file:
        assert file.read() == b"content"


def listed_lazily(folder: Path) -> Iterator[VideoRef]:
    return iter_corpus(CorpusConfig(corpus=str(folder)))


def test_names_from_the_path(store: Store) -> None:
    report = CorpusReport()
    config = CorpusConfig(corpus=store.raw_uri, pattern="{generator}/{speaker}.mp4")
    found = {r.video_id: (r.generator, r.speaker) for r in iter_corpus(config, report)}
    assert found["a/one"] == ("a", "one")
    assert found["b/new\nline"] == ("b", "new\nline")
    assert found["top"] == (None, None)
    assert report.unmatched == 4
    assert report.warnings()[0].startswith("4 of 6 videos do not match the pattern")


@pytest.mark.parametrize(
    ("pattern", "path", "names"),
    [
        ("{generator}/{speaker}.mp4", "g/s.mp4", {"generator": "g", "speaker": "s"}),
        ("{generator}/{speaker}.mp4", "x/g/s.mp4", None),
        ("**/{generator}/*_{speaker}.mp4", "a/b/g/07_s.mp4", {"generator": "g", "speaker": "s"}),
        ("**/{speaker}.mp4", "s.mp4", {"speaker": "s"}),
        ("{speaker}/{speaker}-*.mp4", "s/s-1.mp4", {"speaker": "s"}),
        ("{speaker}/{speaker}-*.mp4", "s/t-1.mp4", None),
        ("v1.0+/{speaker}.mp4", "v1.0+/s.mp4", {"speaker": "s"}),
        ("v1.0+/{speaker}.mp4", "v1x0/s.mp4", None),
    ],
)
def test_patterns(pattern: str, path: str, names: dict[str, str] | None) -> None:
    match = compile_pattern(pattern).fullmatch(path)
    assert (match and match.groupdict()) == names


def test_a_pattern_without_suffix_and_an_unknown_name(tmp_path: Path) -> None:
    fill(Store.at(tmp_path), FILES)
    refs = listed(tmp_path, pattern="{generator}/{speaker}")
    assert {r.video_id: r.speaker for r in refs}["a/two"] == "two"
    with pytest.raises(ValueError, match=r"\{model\} is unknown"):
        CorpusConfig(corpus="x", pattern="{model}/{speaker}.mp4")


def test_a_bucket_is_listed_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path / "s3") as server:
        use(monkeypatch, server.endpoint)
        store = Store.at(f"{server.bucket('videos')}/root")
        names = [f for f in FILES if "\n" not in f]
        fill(store, names)
        pages = []
        calling = store.fs.call_s3

        def few(method: str, **options: object) -> dict[str, object]:
            pages.append(method)
            return calling(method, **options, **({"MaxKeys": 2} if "list" in method else {}))

        monkeypatch.setattr(store.fs, "call_s3", few)
        refs = listed(store.raw_uri)
        assert sorted(r.video_id for r in refs) == [i for i in IDS if "\n" not in i]
        assert pages.count("list_objects_v2") >= 4
        assert all(len(r.version) == 32 for r in refs)  # an ETag
        (one,) = listed(f"{store.raw_uri}/a/*.mp4")
        assert one.uri == "s3://videos/root/a/one.mp4"
        with pytest.raises(CorpusError, match="neither an object nor a prefix"):
            listed("s3://videos/none")


def test_the_spool_is_read_often_and_keeps_everything() -> None:
    refs = [
        VideoRef("a", "s3://b/a", "g", None, 5, "v"),
        VideoRef("n\n\u2028\udcff", "/x\n\udcff", None, "s\x00", None, ""),
    ]
    spooled = spool_corpus(iter(refs))
    assert (spooled.count, spooled.total_bytes) == (2, 5)
    first = iter(spooled)
    assert next(first) == refs[0]
    assert list(spooled) == refs
    assert list(first) == refs[1:]
    assert list(spooled.chunks(1)) == [[refs[0]], [refs[1]]]
    assert spool_corpus([]).count == 0


def test_two_equal_ids_name_both(tmp_path: Path) -> None:
    fill(Store.at(tmp_path), ["x/a.mp4", "x/b.mp4", "x/a.mov"])
    with pytest.raises(CorpusError, match=r"the id 'x/a': .*x/a.mov and .*x/a.mp4"):
        spool_corpus(iter_corpus(CorpusConfig(corpus=str(tmp_path))))


def test_memory_does_not_hold_the_listing() -> None:
    count = 20_000
    refs = (
        VideoRef(f"folder/{i:09d}", f"s3://bucket/folder/{i:09d}.mp4", "g", "s", i, f"etag{i}")
        for i in range(count)
    )
    tracemalloc.start()
    spooled = spool_corpus(refs)
    assert sum(1 for _ in spooled) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * count + (8 << 20)
    assert json.dumps(spooled.count) == str(count)
