"""Training SyncNet: crops, splits, the loop and its state, the whole chain on Ray."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.demo.render import SPEAKERS
from actors.errors import VideoError
from actors.features import FeaturesConfig
from actors.types import Timings, VideoRef
from model.ranks import Ranks
from model.sync_training_config import LARGEST_SHIFT, AugmentationConfig
from model.syncnet import SyncNet
from pipelines.config import load_config
from pipelines.demo_generators import SPEAKERS as HELD_OUT
from pipelines.messages import Progress, VideoEnd
from pipelines.storage import Store
from pipelines.sync_training.config import PRESETS, SyncSplitConfig, SyncTrainConfig
from pipelines.sync_training.crops import CropFactory, longest_run
from pipelines.sync_training.data import CropIndex, StoredClips, order, read_index, split
from pipelines.sync_training.errors import SyncInputError
from pipelines.sync_training.excerpts import embedded, excerpt
from pipelines.sync_training.loop import SyncRun, SyncTask, build_learner, build_net
from pipelines.train_sync import train_sync
from tests.model.learning import as_ranks
from tests.pipelines.sync_crops import FACE, corpus, crop_row, levels, write_crops
from tests.support import ROOT
from tests.talking import talking_video

TRAINING = (
    "training={steps: 4, clips: 4, micro_clips: 2, windows: 10, validate_steps: 2, "
    "schedule: {warmup_steps: 0}}"
)
SMALL = (
    "network={width: 0.02, face: 52, embedding: 8}",
    TRAINING,
    "validation={offset: 2, clips: 3, foreigners: 2, piece_s: 1.6}",
    "split.val=[chen]",
)
SHIPPED = ROOT / "weights" / "demo_sync.safetensors"
STILL = AugmentationConfig(
    flip=0, zoom=0, move=0, turn=0, brightness=0, contrast=0, gain=0, noise=0
)


def settings(*more: str) -> SyncTrainConfig:
    return load_config(SyncTrainConfig, None, ["crops=here", *SMALL, *more])


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("crops")
    write_crops(folder, corpus())
    return Store.at(str(folder))


@pytest.fixture(scope="module")
def index(crops: Store) -> CropIndex:
    return read_index(crops)


# --- what is stored


def test_the_index_names_every_clip_once(index: CropIndex) -> None:
    assert index.videos == ("ada-0", "ada-1", "bruno-0", "bruno-1", "chen-0", "chen-1")
    assert index.speakers == ("ada", "ada", "bruno", "bruno", "chen", "chen")
    assert index.video.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert set(index.windows.tolist()) == {39}
    assert index.face == FACE


def test_clips_are_read_by_number(crops: Store, index: CropIndex) -> None:
    clips = StoredClips(crops, index, 64)
    for number, seed in ((0, 0), (5, 101), (11, 211)):
        clip, wanted = clips.read(number), crop_row(0, seed)
        assert clip.crops.tobytes() == wanted["crops"]
        assert clip.sound.tobytes() == wanted["sound"]
    np.testing.assert_array_equal(clips.read(0).index, np.arange(44))


def test_the_memory_for_clips_has_a_limit(crops: Store, index: CropIndex) -> None:
    loads: list[tuple[int, int]] = []

    class Counted(StoredClips):
        def _load(self, shard: int, group: int) -> Any:
            loads.append((shard, group))
            return super()._load(shard, group)

    tight, wide = Counted(crops, index, 1), Counted(crops, index, 64)
    for clips, wanted in ((wide, 2), (tight, 4)):
        loads.clear()
        for number in (0, 11, 1, 10):
            clips.read(number)
        assert len(loads) == wanted


def test_crops_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    write_crops(tmp_path, {"a-1": [crop_row(0, 1)]})
    write_crops(tmp_path, {"b-1": [crop_row(0, 2)]}, fingerprint="0" * 16)
    with pytest.raises(SyncInputError, match="mixes crops of different settings"):
        read_index(Store.at(str(tmp_path)))


def test_an_output_without_crops_says_so(tmp_path: Path) -> None:
    with pytest.raises(SyncInputError, match="no face crops"):
        read_index(Store.at(str(tmp_path)))


@pytest.mark.parametrize(
    ("mask", "length"), [([], 0), ([0, 0], 0), ([1], 1), ([1, 1, 0, 1, 1, 1, 0], 3)]
)
def test_longest_run(mask: list[int], length: int) -> None:
    assert longest_run(np.array(mask, bool)) == length


# --- which clips serve what


def sides(index: CropIndex, **config: Any) -> Any:
    return split(index, SyncSplitConfig(**config), windows=10, val_windows=26)


def test_a_speaker_is_on_one_side(index: CropIndex) -> None:
    for salt in range(5):
        found = sides(index, salt=salt)
        assert found.by == "speaker"
        assert len(found.train) == 8
        assert len(found.val) == 4
        assert len({index.speakers[v] for v in index.video[found.val]}) == 1
    named = sides(index, val=("bruno",), left_out=("chen",))
    assert named.train.tolist() == [0, 1, 2, 3]
    assert named.val.tolist() == [4, 5, 6, 7]


def test_without_speakers_videos_are_split(tmp_path: Path) -> None:
    write_crops(tmp_path, corpus(), speakers=False)
    index = read_index(Store.at(str(tmp_path)))
    found = sides(index, share=0.4)
    assert found.by == "video"
    assert len({*index.video[found.train]} & {*index.video[found.val]}) == 0
    assert len({*index.video[found.val].tolist()}) == 2
    with pytest.raises(SyncInputError, match="ada-0 has none"):
        sides(index, by="speaker")


def test_clips_without_enough_faces_are_left_out_and_counted(tmp_path: Path) -> None:
    videos = corpus(2, 3, 1)
    videos["ada-1"] = [crop_row(0, 7, hidden=(12, 25, 38))]  # runs of 8 windows at most
    videos["bruno-1"] = [crop_row(0, 8, frames=30)]
    write_crops(tmp_path, videos)
    index = read_index(Store.at(str(tmp_path)))
    found = sides(index, val=("bruno",))
    assert [index.videos[v] for v in index.video[found.train]] == ["ada-0", "ada-2"]
    assert [index.videos[v] for v in index.video[found.val]] == ["bruno-0", "bruno-2"]
    assert found.short == 2
    assert "2 clips are too short" in found.told[1]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"val": ("ada", "bruno")}, None),
        ({"val": ("zoe",)}, "there is no speaker zoe"),
        ({"left_out": ("zoe",)}, "there is no speaker zoe"),
        ({"val": ("ada",), "left_out": ("bruno", "chen")}, "too few videos: 0"),
        ({"by": "video", "left_out": tuple(f"{w}-{n}" for w in ("ada", "bruno") for n in (0, 1))},
         "too few videos: 1"),
    ],
)  # fmt: skip
def test_splits_that_leave_too_little(
    index: CropIndex, config: dict[str, Any], says: str | None
) -> None:
    if says is None:
        assert len(sides(index, **config).train) == 4
        return
    with pytest.raises(SyncInputError, match=says):
        sides(index, **config)


def test_no_video_to_validate_with(tmp_path: Path) -> None:
    videos = corpus(2, 2, 1)
    for number in (0, 1):
        videos[f"bruno-{number}"] = [crop_row(0, number, frames=24)]
    write_crops(tmp_path, videos)
    with pytest.raises(SyncInputError, match="no video to validate with"):
        sides(read_index(Store.at(str(tmp_path))), val=("bruno",))


def test_the_order_is_a_permutation_that_mixes_a_few_groups() -> None:
    clips = 80
    place = np.stack([np.zeros(clips), np.arange(clips) // 8, np.arange(clips) % 8], 1)
    index = CropIndex(
        ("s",), place.astype(np.int64), ("v",), (None,), np.zeros(clips, np.int64),
        np.full(clips, 39), np.full(clips, 39), FACE, "d",
    )  # fmt: skip
    some = np.arange(clips)[5:]

    def found(passed: int, groups: int = 2) -> np.ndarray:
        return order(some, index, groups=groups, seed=1, passed=passed)

    assert sorted(found(0)) == some.tolist()
    np.testing.assert_array_equal(found(0), found(0))
    assert found(0).tolist() != found(1).tolist()
    first = {int(c) // 8 for c in found(0)[:11]}
    assert len(first) == 2
    assert len({int(c) // 8 for c in found(0, groups=10)[:11]}) > 2


# --- excerpts


def test_an_excerpt_is_a_part_of_its_clip(crops: Store, index: CropIndex) -> None:
    clip = StoredClips(crops, index, 64).read(3)
    lips, sound = excerpt(clip, 10, np.random.default_rng(0), STILL)
    assert lips.shape == (3, 14, FACE, FACE)
    assert sound.shape == (10, 13, 20)
    rgb = lips.flip(0).permute(1, 2, 3, 0).numpy().astype(np.uint8)
    starts = [s for s in range(31) if np.array_equal(rgb, clip.crops[s : s + 14])]
    assert len(starts) == 1
    net = build_net(task_of(crops, index))
    whole = embedded(net, clip, "cpu")
    with torch.no_grad():
        heard = net.eval().forward_aud(sound[:, None])
        seen = net.forward_lip(lips[None])[0]
    part = whole.part(starts[0], starts[0] + 10)
    torch.testing.assert_close(part.lips, seen, rtol=1e-4, atol=1e-4)
    # The very first sample of an excerpt has no sample before it.
    torch.testing.assert_close(part.sounds[1:], heard[1:], rtol=1e-3, atol=1e-3)


def test_excerpts_avoid_frames_without_a_face(tmp_path: Path) -> None:
    write_crops(tmp_path, {"a-1": [crop_row(0, 1, hidden=(5, 22, 40))]})
    store = Store.at(str(tmp_path))
    index = read_index(store)
    assert index.run.tolist() == [13]
    clip = StoredClips(store, index, 64).read(0)
    for seed in range(20):
        lips, _ = excerpt(clip, 12, np.random.default_rng(seed), STILL)
        level = np.round(40 + 170 * levels(44, 1))
        means = lips.mean(dim=(0, 2, 3)).numpy()
        at = [s for s in (6, 23) if np.allclose(means[:3], level[s : s + 3], atol=1.5)]
        at += [s for s in (7, 24) if np.allclose(means[:3], level[s : s + 3], atol=1.5)]
        assert at


# --- the loop


def task_of(crops: Store, index: CropIndex, *more: str) -> SyncTask:
    config = settings(*more)
    found = split(index, config.split, windows=10, val_windows=18)
    return SyncTask(config.network, config.training, config.validation, index, found, 2)


def run_of(
    crops: Store,
    task: SyncTask,
    out: Path,
    ranks: Ranks | None = None,
    tell: Callable[[str, Any], None] = lambda *_: None,
) -> SyncRun:
    clips = StoredClips(crops, task.index, 64)
    learner = build_learner(task, ranks or Ranks(), "cpu")
    return SyncRun(task, clips, learner, Store.at(str(out)), tell)


def without_times(run: SyncRun) -> dict[str, Any]:
    return {"history": run.history, "best": run.best, "stale": run.stale}


class StopError(Exception):
    """A kill."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(
    crops: Store, index: CropIndex, tmp_path_factory: pytest.TempPathFactory
) -> SyncRun:
    run = run_of(crops, task_of(crops, index), tmp_path_factory.mktemp("undisturbed"))
    run.run()
    return run


@pytest.mark.parametrize("killed", [1, 2, 3])
def test_a_killed_run_goes_on_with_the_same_curve(
    crops: Store, index: CropIndex, undisturbed: SyncRun, tmp_path: Path, killed: int
) -> None:
    task = task_of(crops, index, "training.state_seconds=0")

    def tell(kind: str, value: Any) -> None:
        if kind == "resumed":
            resumed.append(value)

    resumed: list[int] = []
    first = run_of(crops, task, tmp_path)
    note = first._note

    def dying(done: dict[str, Any]) -> None:
        note(done)
        if first.learner.steps > killed:
            raise StopError

    first._note = dying  # type: ignore[method-assign]
    with pytest.raises(StopError):
        first.run()
    again = run_of(crops, task, tmp_path, tell=tell)
    again.run()
    assert resumed == [killed]
    assert without_times(again) == without_times(undisturbed)
    for name, tensor in undisturbed.learner.net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, again.learner.net.state_dict()[name]), name


def test_two_workers_train_as_one(
    crops: Store, index: CropIndex, undisturbed: SyncRun, tmp_path: Path
) -> None:
    task = task_of(crops, index)
    # Threads share the global generator that first weights are drawn with, which processes do not.
    start = {name: tensor.numpy() for name, tensor in build_net(task).state_dict().items()}
    task = replace(task, start=start)

    def work(ranks: Ranks) -> tuple[SyncRun, Any]:
        run = run_of(crops, task, tmp_path, ranks)
        run.run()
        return run, run.finish()

    tensors, reached = undisturbed.finish()
    for run, (found, got) in as_ranks(2, work):
        for step, wanted in zip(run.history["steps"], undisturbed.history["steps"], strict=True):
            assert step["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
        assert got["whole"]["confidence"] == pytest.approx(reached["whole"]["confidence"], rel=0.02)
        assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in tensors.items()}


def test_the_result_is_scaled_and_rounded(undisturbed: SyncRun) -> None:
    tensors, reached = undisturbed.finish()
    assert reached["whole"]["confidence"] == pytest.approx(7.0, rel=0.05)
    for name, tensor in tensors.items():
        wanted = torch.float16 if tensor.ndim > 1 else torch.float32
        assert tensor.dtype == (torch.int64 if name.endswith("tracked") else wanted), name


def test_a_planted_sync_is_learned(crops: Store, index: CropIndex, tmp_path: Path) -> None:
    """Brightness follows loudness: after a few steps offsets of an unseen speaker are found."""
    more = ("training.steps=40", "training.validate_steps=40", "training.learning_rate=0.01")
    still = f"training.augmentation={json.dumps(STILL.model_dump())}"
    run = run_of(
        crops,
        task_of(crops, index, *more, still, "network={width: 0.05, face: 52, embedding: 16}"),
        tmp_path,
    )
    run.run()
    assert run.history["validations"][-1]["whole"]["exact"] > 0.8


# --- from video


def rows_of(path: Path, **ref: Any) -> list[Any]:
    config = FeaturesConfig(modalities=("sync",))
    processor = CropFactory(config, FACE)(1)
    processor.load()
    return list(processor.process(VideoRef("v", str(path), **ref), Progress(), Timings()))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"audio": None}, "no_sound"),
        ({"audio": np.zeros(16_000, np.float32)}, "silent_sound"),
        ({"images": [np.full((96, 96, 3), 90, np.uint8)] * 30}, "no_face"),
    ],
)
def test_videos_that_cannot_be_learned_from_say_why(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    path = talking_video(tmp_path / "v.mkv", 30, **options)
    with pytest.raises(VideoError) as error:
        rows_of(path)
    assert error.value.reason == reason


def test_damaged_variants_are_not_learned_from(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="clean video"):
        rows_of(tmp_path / "v.mp4", artefacts="[]")


def small_corpus(folder: Path) -> Path:
    folder.mkdir()
    for who in ("ada", "bruno"):
        for number in (1, 2):
            talking_video(folder / f"{who}-{number}.mp4", 40, who)
    talking_video(folder / "mute-1.mp4", 30, audio=None)
    return folder


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_from_videos_to_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from actors.sync import Sync, SyncConfig

    videos = small_corpus(tmp_path / "videos")
    out = tmp_path / "out"
    config = load_config(
        SyncTrainConfig, None,
        [f"corpus.corpus={videos}", "corpus.pattern='{speaker}-*.mp4'", *SMALL[:3],
         "split.val=[bruno]", "demonstration=true", "workers=2"],
    )  # fmt: skip
    summary = train_sync(config, str(out), address="auto")
    assert summary["corpus"]["videos"] == 4
    assert summary["corpus"]["videos_without_a_usable_clip"] == {"no_sound": 1}
    assert summary["steps"] == 4
    sync = Sync(SyncConfig(weights=str(out / "syncnet.safetensors"), min_windows=8))
    assert sync.demonstration
    assert sync.face == FACE
    card = json.loads((out / "syncnet.json").read_text())
    assert card["corpus"]["validated_on"] == {"clips": 2, "groups": ["bruno"]}
    assert card["validation"]["whole"]["offsets"] == 10
    assert "Demonstration" in (out / "syncnet.md").read_text()
    assert not list((out / "state").iterdir())
    assert (out / "crops").is_dir()
    capsys.readouterr()
    assert train_sync(config, str(out), address="auto") == summary
    assert "nothing to do" in capsys.readouterr().err
    for path in sorted(videos.iterdir())[:1]:
        os.utime(path, (1, 1))
        with pytest.raises(SyncInputError, match="finished training on another corpus than the"):
            train_sync(config, str(out), address="auto")
    other = config.model_copy(update={"training": config.training.model_copy(update={"steps": 6})})
    with pytest.raises(SyncInputError, match=r"training\.steps: 4 -> 6"):
        train_sync(other, str(out), address="auto")


def test_a_clip_of_a_video_is_stored_as_it_is_measured(tmp_path: Path) -> None:
    path = talking_video(tmp_path / "v.mp4", 40)
    row, end = rows_of(path)
    assert isinstance(end, VideoEnd)
    assert row["windows"] == row["run"] == 35
    assert len(row["sound"]) == 2 * 640 * 40
    assert len(row["crops"]) == 40 * FACE * FACE * 3
    np.testing.assert_array_equal(row["index"], np.arange(40))


# --- presets


@pytest.mark.parametrize("file", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_loads(file: Path) -> None:
    config = load_config(SyncTrainConfig, None, ["corpus.corpus=here"], base=str(file))
    training, network = config.training, config.network
    assert training.windows > LARGEST_SHIFT  # every shift of the measure is learned from
    bytes_each = {"fp16": 2, "fp32": 4}[network.storage]
    net = SyncNet(network.width, network.face, network.embedding)
    size = bytes_each * sum(p.numel() for p in net.parameters())
    if file.stem == "published":
        assert {k: v.shape for k, v in net.state_dict().items()} == {
            k: v.shape for k, v in SyncNet().state_dict().items()
        }
    if file.stem == "demo":
        assert size < 2 * 2**20
        assert {*config.split.val, *config.split.left_out} == {
            *HELD_OUT,
        }


# --- the weights that ship with the project


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A clip of 3 s of each speaker that was not learned from: crops, index, sound."""
    from actors.demo.render import VideoSpec, render
    from actors.prepare import Preparer
    from actors.sync import heard_frames
    from tests.talking import prepared

    folder = tmp_path_factory.mktemp("held out")
    preparer = Preparer(FeaturesConfig(modalities=("sync",)))
    clips = []
    for who in ("elio", "fay"):
        render(VideoSpec("clean", who, 1, 3.0, 4321), folder / f"{who}.mp4")
        (row,) = prepared(preparer, folder / f"{who}.mp4")
        clips.append((row["sync_crops"], *heard_frames(row)))
    return clips


def test_the_shipped_weights_find_offsets_of_held_out_speakers(held_out: list[Any]) -> None:
    from actors.sync import Sync, SyncConfig

    sync = Sync(SyncConfig(weights=str(SHIPPED)))
    assert sync.demonstration
    assert SHIPPED.stat().st_size <= 2 * 2**20
    found: list[bool] = []
    for crops, index, sound in held_out:
        for offset in range(-10, 11):
            first, last = max(-offset, 0), min(75, 75 - offset)
            heard = sound[640 * (first + offset) : 640 * (last + offset)]
            got = sync.measure(crops, index[first:last], heard)
            assert not isinstance(got, str)
            found.append(got.offset == offset)
    assert np.mean(found) >= 0.95
    (one, other) = held_out
    for (crops, index, sound), (_, _, foreign) in ((one, other), (other, one)):
        own, mixed = sync.measure(crops, index, sound), sync.measure(crops, index, foreign)
        assert not isinstance(own, str)
        assert not isinstance(mixed, str)
        assert own.confidence > mixed.confidence
        assert 3 < own.confidence < 12  # the published order of size


def test_the_card_of_the_shipped_weights_is_theirs() -> None:
    from actors.sync_weights import load_syncnet

    card = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    net, loaded = load_syncnet(str(SHIPPED))
    assert card["digest"] == loaded.digest
    assert card["bytes"] == SHIPPED.stat().st_size
    assert card["network"] == {"width": net.width, "face": net.face, "embedding": net.embedding}
    assert card["corpus"]["digest"] == loaded.metadata["corpus"]
    learned = {*card["corpus"]["learned_from"]["groups"]}
    assert learned == {*SPEAKERS} - {*HELD_OUT}
    text = SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    for line in card["commands"]:
        assert line in text
