"""Fitting over shards against scikit-learn on the same rows in memory."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from actors.descriptors import LOG_FLOORS
from actors.lowlevel import LIPS, SOUND_NAMES
from actors.raw_clips import AUX_NAMES, LOWLEVEL_MASKS, columns_for, raw_clips
from model.preprocessor import Preprocessor
from model.preprocessor_config import PreprocessorConfig
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.fit_preprocessor import ShardRows, deal, fit_preprocessor
from pipelines.training.fit_share import Ask, Findings, Plan, read_share
from tests.pipelines import shard_rows
from tests.pipelines.training.fit_shards import WIDTHS, Clips, draw, reference_rows, table, write

COUNTS = {"visual": 5, "audio": 4, "landmarks": 6}
CONFIG = PreprocessorConfig(**COUNTS)
AUX = ("sync_score", "sync_distance", "lip_velocity", "snr")


@pytest.fixture(scope="module")
def clips() -> Clips:
    return draw(25)


def _fit(folder: Path, shards: list[ShardRows], config: PreprocessorConfig = CONFIG, **more):  # type: ignore[no-untyped-def]
    options = {"streams": list(WIDTHS), "aux_names": AUX, "workers": 2} | more
    return fit_preprocessor(Store.at(folder), shards, config, cpus_per_worker=0.5, **options)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("shards", "workers"), [(1, 1), (2, 2), (7, 2), (7, 3)])
def test_the_fit_is_scikit_learns(tmp_path: Path, clips: Clips, shards: int, workers: int) -> None:
    found = _fit(tmp_path, write(tmp_path, clips, shards), workers=workers)
    assert found.widths == {**COUNTS, "action_units": 17, "lowlevel": 64}
    for name in ("visual", "audio", "landmarks", "action_units"):
        rows, fitted = reference_rows(clips, name), found.streams[name]
        assert fitted.rows == (len(rows),)
        assert fitted.filled == np.isnan(rows).sum() > 0
        imputer, scaler = SimpleImputer(strategy="median"), StandardScaler()
        z = make_pipeline(imputer, scaler).fit_transform(rows)
        np.testing.assert_allclose(fitted.median, imputer.statistics_, rtol=1e-6)
        np.testing.assert_allclose(fitted.scale, scaler.scale_, rtol=1e-6)
        assert fitted.scale[2] == 1  # the constant dimension
        # A mean near 0 is relative to the spread.
        gap = np.abs(fitted.mean - scaler.mean_)
        assert (gap <= 1e-6 * np.minimum(np.abs(scaler.mean_), scaler.scale_)).all()
        if name == "action_units":
            assert fitted.components is None
            continue
        pca = PCA(COUNTS[name], svd_solver="full").fit(z)
        assert fitted.explained_variance is not None
        assert fitted.components is not None
        np.testing.assert_allclose(fitted.explained_variance, pca.explained_variance_, rtol=1e-5)
        ratio = fitted.explained_variance / fitted.total_variance
        np.testing.assert_allclose(ratio, pca.explained_variance_ratio_, rtol=1e-5)
        assert fitted.explained == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)
        assert subspace_angles(fitted.components.T, pca.components_.T).max() < 1e-3
        np.testing.assert_allclose(fitted.components, pca.components_, atol=1e-6)  # signs, too


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_columns_of_lowlevel_and_of_the_auxiliary_vector_have_their_own_rows(
    tmp_path: Path, clips: Clips
) -> None:
    found = _fit(tmp_path, write(tmp_path, clips, 3))
    masks = {
        "audio": clips.frame & clips.audio,
        "face": clips.frame & clips.face,
        "frame": clips.frame,
    }
    at, fitted = 0, found.streams["lowlevel"]
    for columns, mask in LOWLEVEL_MASKS:
        part = slice(at, at + columns)
        rows = clips.streams["lowlevel"][masks[mask]][:, part].astype(float)
        median = np.nanmedian(rows, axis=0)
        rows = np.where(np.isnan(rows), median, rows)
        np.testing.assert_allclose(fitted.median[part], median, rtol=1e-6)
        np.testing.assert_allclose(fitted.mean[part], rows.mean(axis=0), rtol=1e-6)
        std = np.where(np.ptp(rows, axis=0) == 0, 1, rows.std(axis=0))
        np.testing.assert_allclose(fitted.scale[part], std, rtol=1e-6)
        at += columns
    assert at == 64
    assert [n for n, _ in LOWLEVEL_MASKS] == [len(SOUND_NAMES), len(LIPS) + 1, 1]
    assert found.aux is not None
    velocity = np.array([np.nan if x is None else x for x in clips.descriptors["lip_velocity"]])
    values = np.column_stack(
        [clips.sync[:, 0], clips.sync[:, 3], velocity, np.array(clips.descriptors["snr"])]
    )
    assert found.aux.names == AUX
    np.testing.assert_allclose(found.aux.mean, np.nanmean(values, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.aux.scale, np.nanstd(values, axis=0), rtol=1e-6)
    logs = np.column_stack(
        [values[:, :2], np.log(velocity + LOG_FLOORS["lip_velocity"]), values[:, 3]]
    )
    config = CONFIG.model_copy(update={"aux_log": True})
    found = _fit(tmp_path, write(tmp_path, clips, 3), config, streams=["lowlevel"])
    np.testing.assert_array_equal(found.aux.floor, [0, 0, LOG_FLOORS["lip_velocity"], 0])
    np.testing.assert_allclose(found.aux.mean, np.nanmean(logs, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.aux.scale, np.nanstd(logs, axis=0), rtol=1e-6)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_without_any_stream_the_auxiliary_vector_is_fitted_alone(
    tmp_path: Path, clips: Clips
) -> None:
    shards = write(tmp_path, clips, 3)
    told: list[str] = []
    alone = _fit(tmp_path, shards, streams=[], progress=lambda *what: told.append(what[2]))
    beside = _fit(tmp_path, shards, streams=["lowlevel"])
    assert alone.streams == {}
    assert len(set(told)) == 1  # read once
    assert alone.aux is not None
    assert beside.aux is not None
    np.testing.assert_array_equal(alone.aux.mean, beside.aux.mean)
    np.testing.assert_array_equal(alone.aux.scale, beside.aux.scale)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_only_the_training_rows_are_read_and_a_repetition_gives_the_same_bits(
    tmp_path: Path, clips: Clips
) -> None:
    shards = write(tmp_path, clips, 3, group=5)
    kept = [ShardRows(s.name, s.rows[1::2][::-1]) for s in shards]  # in any order
    told: list[tuple[int, int, str]] = []
    found = _fit(tmp_path, kept, progress=lambda *what: told.append(what))
    rows = np.concatenate([np.arange(25)[n::3][1::2] for n in range(3)])
    part = Clips(
        {n: v[rows] for n, v in clips.streams.items()},
        *(x[rows] for x in (clips.frame, clips.face, clips.audio, clips.sync)),
        {n: [v[i] for i in rows] for n, v in clips.descriptors.items()},
    )
    want = np.nanmedian(reference_rows(part, "audio"), axis=0)
    np.testing.assert_allclose(found.streams["audio"].median, want, rtol=1e-6)
    assert found.streams["audio"].rows == ((part.frame & part.audio).sum(),)
    assert _fit(tmp_path, list(reversed(kept))).digest() == found.digest()
    phases = list(dict.fromkeys(phase for _, _, phase in told))
    assert phases == [*(f"pass {n}: medians" for n in (1, 2, 3)), "pass 4: filled rows"]
    for phase in phases:
        counts = [(done, total) for done, total, which in told if which == phase]
        assert counts[0] == (0, len(rows))
        assert counts[-1] == (len(rows), len(rows))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_shards_without_missing_values_are_not_read_again(tmp_path: Path) -> None:
    clips = draw(12)
    values = np.nan_to_num(clips.streams["audio"])
    values[0, 5, 4] = np.nan  # clip 0 is in shard 0
    clips.streams["audio"] = values
    told: list[tuple[int, int, str]] = []
    shards = write(tmp_path, clips, 3)
    found = _fit(tmp_path, shards, streams=["audio"], progress=lambda *what: told.append(what))
    assert told[-1] == (4, 4, "pass 3: filled rows")  # 4 of 12 clips
    rows = reference_rows(clips, "audio")
    rows = np.where(np.isnan(rows), np.nanmedian(rows, axis=0), rows)
    assert found.streams["audio"].rows == (len(rows),)
    assert found.streams["audio"].filled == 1
    np.testing.assert_allclose(found.streams["audio"].mean, rows.mean(axis=0), rtol=1e-9)
    values[0, 5, 4] = 1.0
    told.clear()
    shards = write(tmp_path, clips, 3)
    _fit(tmp_path, shards, streams=["audio"], progress=lambda *what: told.append(what))
    assert told[-1] == (12, 12, "pass 2: medians")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_papers_padding_and_faceless_frames_are_zeros(tmp_path: Path, clips: Clips) -> None:
    config = PreprocessorConfig(**COUNTS, mask_padding=False, faceless="zeros", winsorise=1.5)
    found = _fit(tmp_path, write(tmp_path, clips, 2), config).streams
    has = {"visual": clips.face & clips.frame, "audio": clips.audio & clips.frame}
    for name, mask in has.items():
        values = clips.streams[name].astype(float)
        values[~clips.frame] = 0
        if name == "visual":
            values[clips.frame & ~clips.face] = 0
        some = mask.any(axis=1)[:, None] & (~clips.frame | (True if name == "visual" else mask))
        rows = values[some]
        assert found[name].rows == (len(rows),)
        low, median, high = np.nanquantile(rows, (0.25, 0.5, 0.75), axis=0)
        rows = np.where(np.isnan(rows), median, rows)
        reach = 1.5 * (high - low)
        rows = np.clip(rows, low - reach, high + reach)
        np.testing.assert_allclose(found[name].mean, rows.mean(axis=0), rtol=1e-6)
        flat = np.ptp(rows, axis=0) == 0
        np.testing.assert_allclose(found[name].scale[~flat], rows.std(axis=0)[~flat], rtol=1e-6)
        assert (found[name].scale[flat] == 1).all()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_rows_as_the_extraction_writes_them(tmp_path: Path) -> None:
    batch = shard_rows.batch("a/b", range(3), left_out=frozenset())
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "p.parquet")
    shards = [ShardRows("p.parquet", np.arange(3))]
    config = PreprocessorConfig(visual=20, audio=20)
    streams = ["visual", "audio", "action_units", "lowlevel"]
    aux_names = ("sync_offset", "sharpness")
    found = _fit(tmp_path, shards, config, streams=streams, aux_names=aux_names)
    raw = raw_clips(batch, streams, found.aux_names)
    assert raw.video_id == ("a/b",) * 3
    assert raw.end_s.tolist() == [6, 12, 18]
    reduced = found.apply(raw)
    assert {n: x.shape[2] for n, x in reduced.streams.items()} == found.widths
    # What was fitted on the same rows is centred, and its variances are those that were kept.
    z = reduced.streams["audio"].double().reshape(450, 20).numpy()
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(
        z.var(axis=0, ddof=1), found.streams["audio"].explained_variance, rtol=1e-4
    )
    again = Preprocessor.from_tensors(found.to_tensors(), json.loads(json.dumps(found.to_json())))
    assert again.digest() == found.digest()


# --- bad input


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_bad_input_is_named(tmp_path: Path) -> None:
    clips = draw(6)
    clips.audio[:] = False
    clips.face[:, 0], clips.face[2] = True, False
    clips.streams["landmarks"][:, 0] = np.nan_to_num(clips.streams["landmarks"][:, 0])
    shards = write(tmp_path, clips, 1)
    with pytest.raises(TrainInputError, match="no training clips"):
        _fit(tmp_path, [ShardRows(shards[0].name, np.arange(0))])
    with pytest.raises(TrainInputError, match=r"audio: no valid row.*none of them has sound"):
        _fit(tmp_path, shards)
    # The picture's columns of lowlevel are still there.
    found = _fit(tmp_path, shards, streams=["lowlevel"], aux_names=())
    assert found.streams["lowlevel"].empty == len(SOUND_NAMES)
    assert found.streams["lowlevel"].rows[0] == 0
    with pytest.raises(TrainInputError, match=r"visual: 30 principal components.*24 dimensions"):
        _fit(tmp_path, shards, PreprocessorConfig(visual=30, audio=4, landmarks=6))
    clips.face[:, 1:] = False
    clips.frame[:] = True
    shards = write(tmp_path, clips, 1)
    with pytest.raises(
        TrainInputError, match=r"landmarks: 6 .* at least 6 valid frames, .* have 5"
    ):
        _fit(tmp_path, shards, streams=["landmarks"])
    with pytest.raises(TrainInputError, match="row 9 of 6 is asked for"):
        _fit(tmp_path, [ShardRows(shards[0].name, np.array([9, 2]))])
    slim = table(draw(2), np.arange(2)).drop_columns(["landmarks", "descriptors"])
    pq.write_table(slim, tmp_path / "slim.parquet")
    only = [ShardRows("slim.parquet", np.arange(2))]
    with pytest.raises(TrainInputError, match=r"slim\.parquet has no column landmarks"):
        _fit(tmp_path, only)
    with pytest.raises(TrainInputError, match=r"slim\.parquet: .*no column descriptors"):
        _fit(tmp_path, only, streams=["audio"], aux_names=("snr",))
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "slim.parquet").read_bytes()[:-100])
    with pytest.raises(TrainInputError, match=r"cut\.parquet is not a whole Parquet file"):
        _fit(tmp_path, [ShardRows("cut.parquet", np.arange(1))])


# --- its parts, without Ray


def test_shares_are_even_and_do_not_depend_on_the_order() -> None:
    shards = [ShardRows(f"s{i}", np.arange(n)) for i, n in enumerate([9, 1, 5, 5, 3, 1])]
    shares = deal(shards, 3)
    assert [sum(len(s.rows) for s in share) for share in shares] == [9, 8, 7]
    assert sorted(s.name for share in shares for s in share) == [f"s{i}" for i in range(6)]
    again = deal(shards[::-1], 3)
    assert [[s.name for s in x] for x in again] == [[s.name for s in x] for x in shares]
    assert len(deal(shards, 20)) == 6


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path, clips: Clips) -> None:
    """A shard whose other columns are damaged serves all the same."""
    from model.order_statistics import QuantileSearch
    from model.preprocessor_config import stream_layout

    (shard,) = write(tmp_path, clips, 1)
    path = tmp_path / shard.name
    spoiled = bytearray(path.read_bytes())
    groups = pq.ParquetFile(path).metadata
    for number in range(groups.num_row_groups):
        group = groups.row_group(number)
        for at in range(group.num_columns):
            column = group.column(at)
            if column.path_in_schema.startswith(("visual", "audio.")):
                start = column.dictionary_page_offset or column.data_page_offset
                spoiled[start : start + column.total_compressed_size] = bytes(
                    column.total_compressed_size
                )
    path.write_bytes(spoiled)
    plan = Plan.of([stream_layout("landmarks", WIDTHS["landmarks"])], CONFIG)
    key = plan.units[0].key
    request = QuantileSearch("float32", WIDTHS["landmarks"]).request()
    assert request is not None
    steps = list(read_share(Store.at(tmp_path), [shard], plan, Ask({key: request})))
    assert steps[0] == len(clips)
    assert isinstance(steps[1], Findings)
    assert steps[1].counters[key].counts[0].sum() > 0


def test_arrow_is_read_without_copying_and_slices_keep_their_place(clips: Clips) -> None:
    whole = table(clips, np.arange(9))
    names = ["visual", "lowlevel"]
    raw = raw_clips(whole, names, ("sync_offset", "lip_velocity"))
    assert not raw.streams["visual"].flags.owndata
    part = raw_clips(whole.slice(3, 4), names, ("lip_velocity",))
    for name in names:
        np.testing.assert_array_equal(raw.streams[name], clips.streams[name][:9])
        np.testing.assert_array_equal(part.streams[name], clips.streams[name][3:7])
    np.testing.assert_array_equal(part.face_mask, clips.face[3:7])
    assert part.video_id == ("v3", "v4", "v5", "v6")
    assert raw.aux is not None
    np.testing.assert_array_equal(raw.aux[:, 0], clips.sync[:9, 1])
    assert np.isnan(raw.aux[4, 1])  # null
    two = pa.concat_tables([whole.slice(0, 2), whole.slice(2)])
    np.testing.assert_array_equal(raw_clips(two, names).streams["visual"], raw.streams["visual"])
    assert len(raw_clips(whole.slice(0, 0), names)) == 0


def test_names_of_the_auxiliary_vector() -> None:
    assert len(AUX_NAMES) == 54
    assert columns_for(["audio"], ("sync_score", "snr"))[3:] == ["audio", "sync", "descriptors.snr"]
    with pytest.raises(ValueError, match="no auxiliary value loudnes"):
        columns_for([], ("loudnes",))
