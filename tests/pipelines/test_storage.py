import io
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.ledger import Ledger
from pipelines.leftovers import clean_leftovers
from pipelines.retry import call, is_transient
from pipelines.shards import ShardWriter, VideoKey, read_shards
from pipelines.storage import (
    MissingError,
    RetryConfig,
    StorageError,
    Store,
    display_text,
    open_uri,
    strip_credentials,
)
from tests.pipelines.shard_rows import FINGERPRINT, batch, schema
from tests.s3server import FaultProxy, S3Server, environment, s3_server

QUICK = RetryConfig(base_s=0.01, cap_s=0.1)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "root") as server:
        server.bucket("bucket")
        yield server


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    import s3fs

    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "s3":
        use(monkeypatch, request.getfixturevalue("s3").endpoint)
        return Store.at(f"s3://bucket/{tmp_path.name}", QUICK)
    return Store.at(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


NAMES = ["plain", "deep/er/file", "with space", "ünï-😀", "a#b?c%20d[1]*{x}::y"]


def test_objects_round_trip(store: Store) -> None:
    for name in NAMES:
        store.write_bytes(name, name.encode())
    assert [info.name for info in store.list()] == sorted(NAMES)
    for name in NAMES:
        assert store.read_bytes(name) == name.encode()
        assert store.read_range(name, 1, 3) == name.encode()[1:3]
        with store.open(name) as file:
            file.seek(2)
            assert file.read() == name.encode()[2:]
    assert [info.name for info in store.list("deep/")] == ["deep/er/file"]
    assert [info.name for info in store.list("pl")] == ["plain"]
    before = {info.name: info.version for info in store.list()}
    store.write_bytes("plain", b"new content")
    after = {info.name: info.version for info in store.list()}
    assert [n for n in NAMES if before[n] != after[n]] == ["plain"]
    store.delete("plain")
    store.delete("plain")
    assert not store.exists("plain")
    assert store.exists("deep")


def test_what_is_missing_is_said(store: Store) -> None:
    assert store.list() == []
    assert not store.exists("nothing")
    for action in (store.read_bytes, store.open):
        with pytest.raises(MissingError, match="nothing: it does not exist"):
            action("nothing")


def test_large_objects_stream(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SINGLE_PUT_BYTES", 12 << 20)
    monkeypatch.setattr(storage, "PART_BYTES", 5 << 20)
    data = os.urandom(11 << 20)
    for content in (data, data * 2):  # one request from a file; several parts
        store.publish(io.BytesIO(content), "large")
        assert store.read_bytes("large") == content
    assert not store.exists("_tmp")


def test_a_store_and_its_errors_travel(store: Store) -> None:
    store.write_bytes("x", b"1")
    other = pickle.loads(pickle.dumps(store))
    assert (other.uri, other.read_bytes("x")) == (store.uri, b"1")
    error = pickle.loads(pickle.dumps(MissingError("gone", transient=True)))
    assert (type(error), str(error), error.transient) == (MissingError, "gone", True)


def test_writers_side_by_side_remove_the_empty_folder_under_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkdir finds the folder there, and by the time it looks what it is another has removed it."""
    store = Store.at(str(tmp_path))
    folder = tmp_path / "_tmp"
    folder.mkdir()
    is_dir, looks = Path.is_dir, []

    def removed_first(path: Path) -> bool:
        if path == folder and not looks:
            looks.append(path)
            folder.rmdir()
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", removed_first)
    store.write_bytes("a.txt", b"text")
    assert looks
    assert store.read_bytes("a.txt") == b"text"


def test_open_uri_takes_names_as_they_are(tmp_path: Path) -> None:
    for name in ("a b\nc.mp4", "x::y?z#.mp4", "s3:trap.mp4"):
        (tmp_path / name).write_bytes(name.encode())
        with open_uri(str(tmp_path / name)) as file:
            assert file.read() == name.encode()


def test_failed_local_writes_leave_nothing(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(28, "No space left on device")

    store = Store.at(tmp_path)
    store.write_bytes("kept", b"1")
    with pytest.raises(StorageError, match="disk is full"):
        store.publish(Broken(), "kept")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["kept"]
    assert store.read_bytes("kept") == b"1"


def test_a_tenth_of_failing_requests_loses_nothing(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SINGLE_PUT_BYTES", 6 << 20)
    monkeypatch.setattr(storage, "PART_BYTES", 5 << 20)
    with FaultProxy(s3.endpoint, seed=4) as proxy:
        use(monkeypatch, proxy.endpoint)
        store = Store.at("s3://bucket/faults", QUICK)
        for n in range(60):
            store.write_bytes(f"small/{n}", b"%d" % n)
        large = os.urandom(12 << 20)
        for n in range(4):
            store.publish(io.BytesIO(large), f"large/{n}")
        for n in range(8):
            shard = ShardWriter(store, schema(), FINGERPRINT, lambda: None)
            shard.add(VideoKey(f"v{n}", "1"), [batch(f"v{n}", range(2))])
            shard.commit()
        ledger = Ledger.load(store)
        assert (ledger.videos, ledger.clips) == (8, 16)
        assert len(store.list("small/")) == 60
        assert [store.read_bytes(f"small/{n}") for n in range(60)] == [b"%d" % n for n in range(60)]
        for n in range(4):
            with store.open(f"large/{n}") as file:
                assert file.read() == large
        monkeypatch.setattr("pipelines.retry.RetryConfig", lambda: QUICK)
        assert read_shards("s3://bucket/faults").count_rows() == 16
        for n in range(60):
            store.delete(f"small/{n}")
        assert store.list("small/") == []
        assert proxy.faults > 10


def test_unfinished_uploads_of_shards_are_aborted_and_others_kept(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, s3.endpoint)
    store = Store.at(f"{s3.bucket('uploads')}/uploads", QUICK)
    for key in ("uploads/features/part-x", "uploads/features/mine", "other/features/part-x"):
        store.fs.call_s3("create_multipart_upload", Bucket="uploads", Key=key)
    assert clean_leftovers(store) == 1
    left = store.fs.call_s3("list_multipart_uploads", Bucket="uploads")["Uploads"]
    assert {u["Key"] for u in left} == {"uploads/features/mine", "other/features/part-x"}


def test_refusals_are_explained(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, s3.endpoint)
    for action in (Store.list, lambda s: s.write_bytes("x", b"")):
        with pytest.raises(MissingError, match="the bucket does not exist"):
            action(Store.at("s3://no-such-bucket/x", QUICK))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    Store.at("s3://bucket", QUICK).fs.clear_instance_cache()
    with pytest.raises(StorageError, match="Access was refused: check the credentials"):
        Store.at("s3://bucket/x", QUICK).list()
    use(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="check AWS_ENDPOINT_URL") as caught:
        Store.at("s3://bucket/x", RetryConfig(attempts=2, base_s=0)).list()
    assert caught.value.transient
    with pytest.raises(StorageError, match="cannot open nosuch"):
        Store.at("nosuch://bucket/x")


def test_retries_are_bounded_and_only_for_what_passes() -> None:
    slept: list[float] = []
    tries = []

    def fail() -> None:
        tries.append(1)
        raise ConnectionResetError("reset")

    policy = RetryConfig(attempts=5, base_s=1, cap_s=4)
    with pytest.raises(StorageError):
        call(policy, "read", "s3://b/x", fail, slept.append)
    assert len(tries) == 5
    assert all(top / 2 <= s <= top for s, top in zip(slept, (1, 2, 4, 4), strict=True))
    for error in (FileNotFoundError(), PermissionError(), ValueError("bug")):
        assert not is_transient(error)
    from aiohttp import ClientResponseError  # what a web server's answer becomes

    for status, passes in ((500, True), (503, True), (429, True), (404, False), (403, False)):
        refused = ClientResponseError(None, (), status=status)  # type: ignore[arg-type]
        assert is_transient(refused) == passes
    with pytest.raises(TypeError):  # a defect of the code is not an error of the storage
        call(policy, "read", "x", lambda: len(5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "clean"),
    [
        ("s3://key:secret@bucket/a b.mp4", "s3://bucket/a b.mp4"),
        ("s3://key:sec/r/et@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://me:pw@host:8/x.mp4?X-Amz-Signature=abc#t", "https://host:8/x.mp4"),
        ("s3://bucket/why?.mp4", "s3://bucket/why?.mp4"),
        ("s3://b/x.mp4?versionId=7&X-Amz-Security-Token=s", "s3://b/x.mp4?versionId=7"),
        ("/data/a@b?token=1.mp4", "/data/a@b?token=1.mp4"),
        ("/data/bad\udcff.mp4", "/data/bad\\udcff.mp4"),
    ],
)
def test_credentials_are_stripped(uri: str, clean: str) -> None:
    assert strip_credentials(uri) == clean


def test_terminals_are_safe_from_names() -> None:
    shown = display_text("a\nb\x1b[31m\u202egpj\udcff é😀")
    assert shown == "a\\nb\\x1b[31m\\u202egpj\\udcff é😀"
    assert len(display_text("x" * 1000)) == 200
