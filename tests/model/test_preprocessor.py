"""Applying and storing the preprocessor, against the formula written out frame by frame."""

import json
import pickle
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.fitted_stream import FittedAux, FittedStream
from model.preprocessor import Preprocessor
from model.preprocessor_config import MaskName, PreprocessorConfig, StreamLayout, stream_layout

LOWLEVEL: tuple[tuple[int, MaskName], ...] = ((3, "audio"), (2, "face"), (1, "frame"))
WIDTHS = {"visual": 8, "audio": 7, "landmarks": 9, "action_units": 4, "lowlevel": 6}
COUNTS = {"visual": 3, "audio": 2, "landmarks": 4}
MASK_OF: dict[str, list[str]] = {
    "visual": ["face"] * 8,
    "audio": ["audio"] * 7,
    "landmarks": ["face"] * 9,
    "action_units": ["face"] * 4,
    "lowlevel": ["audio"] * 3 + ["face"] * 2 + ["frame"],
}
CONFIG = PreprocessorConfig(**COUNTS)


@dataclass
class Raw:
    streams: dict[str, np.ndarray]
    frame_mask: np.ndarray
    face_mask: np.ndarray
    audio_mask: np.ndarray
    aux: np.ndarray | None = None
    more: dict[str, Any] = field(default_factory=dict)


def _fitted(name: str, seed: int, winsorise: bool) -> FittedStream:
    rng = np.random.default_rng(seed)
    width = WIDTHS[name]
    axes = np.linalg.qr(rng.standard_normal((width, width)))[0]
    count = COUNTS.get(name)
    layout = stream_layout(name, width, LOWLEVEL)
    median = rng.normal(0, 2, width)
    return FittedStream(
        layout=layout,
        rows=(1000,) * len(layout.groups),
        filled=0,
        empty=0,
        median=median,
        mean=median + rng.normal(0, 0.3, width),
        scale=rng.uniform(0.1, 10, width),
        low=median - 1 if winsorise else None,
        high=median + 1 if winsorise else None,
        components=axes[:count] if count else None,
        explained_variance=np.linspace(3, 1, count) if count else None,
        total_variance=float(width) if count else 0.0,
    )


def _preprocessor(config: PreprocessorConfig = CONFIG, **more: Any) -> Preprocessor:
    winsorise = config.winsorise is not None
    streams = [_fitted(name, i, winsorise) for i, name in enumerate(WIDTHS)]
    aux = FittedAux(("a", "b", "c"), np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 0.5]))
    return Preprocessor(config, streams, aux, **more)


def _raw(seed: int = 0, clips: int = 5, steps: int = 12) -> Raw:
    rng = np.random.default_rng(seed)
    frame = rng.random((clips, steps)) < 0.9
    frame[:, 0] = True
    frame[:, 10:] = False  # padding at the end of all
    face = rng.random((clips, steps)) < 0.7  # true in padding, too: must not matter
    face[1] = False
    audio = np.ones((clips, steps), bool)
    audio[2] = False
    audio[3, 4:] = False
    streams = {}
    for name, width in WIDTHS.items():
        values = rng.normal(0, 3, (clips, steps, width))
        values[rng.random(values.shape) < 0.05] = np.nan
        streams[name] = values.astype(np.float16 if name in ("visual", "audio") else np.float32)
    aux = np.array([[1, np.nan, 3], [5, 2, np.inf], [0, 0, 0], [1, 1, 1], [2, 2, 2]], np.float32)
    return Raw(streams, frame, face, audio, aux)


def _by_hand(preprocessor: Preprocessor, raw: Raw, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The formula of SPEC section 5 in loops; values and presence [B, all steps, ...]."""
    fitted, config = preprocessor.streams[name], preprocessor.config
    clips, steps = raw.frame_mask.shape
    out = np.zeros((clips, steps, fitted.width))
    present = np.zeros((clips, steps), bool)
    for b in range(clips):
        real = raw.frame_mask[b]
        found = {"face": real & raw.face_mask[b], "audio": real & raw.audio_mask[b], "frame": real}
        for t in range(steps):
            main = MASK_OF[name][0] if name != "lowlevel" else "frame"
            present[b, t] = real[t] or not config.mask_padding
            if main == "face":
                present[b, t] &= found["face"].any()
            if main == "audio":
                present[b, t] &= found["audio"].any() and (found["audio"][t] or not real[t])
            if not present[b, t]:
                continue
            row = raw.streams[name][b, t].astype(float)
            for d in range(len(row)):
                mask = MASK_OF[name][d]
                faceless = mask == "face" and real[t] and not raw.face_mask[b, t]
                if not real[t] or (faceless and config.faceless == "zeros"):
                    row[d] = 0.0
                elif not found[mask][t] or not np.isfinite(row[d]):
                    row[d] = fitted.median[d]
                if config.winsorise is not None:
                    assert fitted.low is not None
                    assert fitted.high is not None
                    row[d] = min(max(row[d], fitted.low[d]), fitted.high[d])
            z = (row - fitted.mean) / fitted.scale
            if fitted.components is None:
                out[b, t] = z
                continue
            out[b, t] = fitted.components @ z
            if config.whiten:
                assert fitted.explained_variance is not None
                out[b, t] /= np.sqrt(fitted.explained_variance)
    return out, present


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"winsorise": 1.5},
        {"faceless": "zeros"},
        {"mask_padding": False},
        {"mask_padding": False, "faceless": "zeros", "winsorise": 1.5, "whiten": True},
    ],
)
def test_apply_is_the_formula(more: dict[str, Any], dtype: torch.dtype) -> None:
    preprocessor = _preprocessor(PreprocessorConfig(**COUNTS, **more), dtype=dtype)
    raw = _raw()
    batch = preprocessor.apply(raw)
    steps = 10 if preprocessor.config.mask_padding else 12
    frames = raw.frame_mask if preprocessor.config.mask_padding else np.ones((5, 12), bool)
    np.testing.assert_array_equal(batch.frame_mask.numpy(), frames[:, :steps])
    for name in WIDTHS:
        want, present = _by_hand(preprocessor, raw, name)
        np.testing.assert_array_equal(batch.present[name].numpy(), present[:, :steps])
        got = batch.streams[name]
        assert got.dtype == dtype
        assert got.shape == (5, steps, preprocessor.widths[name])
        bound = 1e-12 if dtype == torch.float64 else 2e-5
        np.testing.assert_allclose(got.numpy(), want[:, :steps], rtol=bound, atol=bound)


def test_modalities_that_a_clip_lacks_are_not_present() -> None:
    raw = _raw()
    batch = _preprocessor().apply(raw)
    for name in ("visual", "landmarks", "action_units"):
        assert not batch.present[name][1].any()  # no face at all
        assert (batch.present[name][0] == batch.frame_mask[0]).all()  # some frames without one
    assert not batch.present["audio"][2].any()
    assert not batch.present["audio"][3, 4:].any()
    assert (batch.present["lowlevel"] == batch.frame_mask).all()


def test_garbage_under_false_masks_and_the_neighbours_change_nothing() -> None:
    preprocessor, raw = _preprocessor(), _raw()
    want = preprocessor.apply(raw)
    rng = np.random.default_rng(9)
    for name, values in raw.streams.items():
        masks = {
            "face": raw.face_mask & raw.frame_mask,
            "audio": raw.audio_mask & raw.frame_mask,
            "frame": raw.frame_mask,
        }
        for d, mask in enumerate(MASK_OF[name]):
            hole = ~masks[mask]
            values[hole, d] = rng.choice([np.nan, np.inf, 6e4, -6e4], hole.sum())
    got = preprocessor.apply(raw)
    for name in WIDTHS:
        assert torch.equal(got.streams[name], want.streams[name])
    one = Raw(
        {n: v[4:] for n, v in raw.streams.items()},
        *(m[4:] for m in (raw.frame_mask, raw.face_mask, raw.audio_mask)),
        raw.aux[4:] if raw.aux is not None else None,
    )
    alone = preprocessor.apply(one)
    for name in WIDTHS:
        steps = alone.streams[name].shape[1]
        torch.testing.assert_close(alone.streams[name][0], got.streams[name][4, :steps])


def test_input_is_left_as_it_is_even_when_it_is_read_only() -> None:
    raw = _raw()
    for values in raw.streams.values():
        values.flags.writeable = False
    before = {name: values.copy() for name, values in raw.streams.items()}
    _preprocessor(PreprocessorConfig(**COUNTS, faceless="zeros", mask_padding=False)).apply(raw)
    for name, values in raw.streams.items():
        np.testing.assert_array_equal(values, before[name])


def test_a_mean_far_above_the_spread_does_not_cancel() -> None:
    rng = np.random.default_rng(3)
    values = (1e4 + rng.integers(-8, 9, (2, 5, 9)) / 16).astype(np.float32)  # exact in float32
    fitted = replace(
        _fitted("landmarks", 2, False), mean=np.full(9, 1e4 + 0.01), scale=np.full(9, 0.3)
    )
    ones = np.ones((2, 5), bool)
    got = Preprocessor(CONFIG, [fitted]).apply(Raw({"landmarks": values}, ones, ones, ones))
    assert fitted.components is not None
    want = (values.astype(float) - fitted.mean) / 0.3 @ fitted.components.T
    # float32 rounds the mean of 10,000.01 by up to 0.0005: 0.0016 of the spread a dimension.
    np.testing.assert_allclose(got.streams["landmarks"].numpy(), want, atol=3 * 0.0016)


def test_autocast_around_it_does_not_coarsen_the_projection() -> None:
    preprocessor, raw = _preprocessor(), _raw()
    want = preprocessor.apply(raw)
    with torch.autocast("cpu", torch.bfloat16):
        got = preprocessor.apply(raw)
    assert torch.equal(got.streams["visual"], want.streams["visual"])


def test_the_auxiliary_vector_is_standardised_and_masked() -> None:
    batch = _preprocessor().apply(_raw())
    assert batch.aux is not None
    assert batch.aux_present is not None
    np.testing.assert_array_equal(batch.aux_present[:2].numpy(), [[1, 0, 1], [1, 1, 0]])
    np.testing.assert_allclose(batch.aux[:2].numpy(), [[0, 0, 0], [2, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(batch.aux[2].numpy(), [-0.5, -2, -6], atol=1e-6)


def test_clips_without_a_real_frame_and_no_clips_at_all() -> None:
    raw = _raw()
    raw.frame_mask[:] = False
    batch = _preprocessor().apply(raw)
    assert batch.frame_mask.shape == (5, 1)
    assert not batch.frame_mask.any()
    assert torch.isfinite(batch.streams["visual"]).all()


# --- storing


def test_storing_and_reading_gives_the_same(tmp_path: Any) -> None:
    from safetensors.torch import load_file, save_file

    preprocessor = _preprocessor(PreprocessorConfig(**COUNTS, winsorise=2.0, whiten=True))
    save_file(preprocessor.to_tensors(), tmp_path / "p.safetensors")
    facts = json.loads(json.dumps(preprocessor.to_json()))
    again = Preprocessor.from_tensors(load_file(tmp_path / "p.safetensors"), facts)
    raw = _raw()
    for other in (again, pickle.loads(pickle.dumps(preprocessor)), preprocessor.to("cpu")):
        assert other.digest() == preprocessor.digest()
        assert (other.widths, other.aux_names) == (preprocessor.widths, ("a", "b", "c"))
        for name in WIDTHS:
            got = other.apply(raw).streams[name]
            assert torch.equal(got, preprocessor.apply(raw).streams[name])


def test_the_digest_changes_with_any_number_or_setting() -> None:
    base = _preprocessor()
    seen = {base.digest(), _preprocessor(PreprocessorConfig(**COUNTS, whiten=True)).digest()}
    facts = base.to_json()
    for key, tensor in base.to_tensors().items():
        changed = {**base.to_tensors(), key: tensor * (1 + 1e-15) + 1e-15}
        seen.add(Preprocessor.from_tensors(changed, facts).digest())
    assert len(seen) == 2 + len(base.to_tensors())


def test_ratios_are_standardised_as_logarithms_where_there_is_a_floor() -> None:
    config = CONFIG.model_copy(update={"aux_log": True})
    plain = _preprocessor()
    floor = np.array([0.5, 0.0, 2.0])
    mean, scale = np.array([0.1, 2.0, 0.7]), np.array([2.0, 1.0, 0.5])
    aux = FittedAux(("a", "b", "c"), mean, scale, floor)
    made = Preprocessor(config, plain.streams.values(), aux)
    raw = _raw()
    raw.aux[3] = [-7.0, 1.0, 1e6]  # below what a measure can be: as 0
    batch = made.apply(raw)
    assert batch.aux is not None
    assert batch.aux_present is not None
    rows = np.array([[0.0, 1.0, 1e6], [2.0, 2.0, 2.0]])
    logs = [np.log(rows[:, 0] + 0.5), rows[:, 1], np.log(rows[:, 2] + 2.0)]
    expected = (np.stack(logs, axis=1) - mean) / scale
    np.testing.assert_allclose(batch.aux[3:].numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(batch.aux_present[:2].numpy(), [[1, 0, 1], [1, 1, 0]])
    assert (batch.aux[:2].numpy()[[0, 1], [1, 2]] == 0).all()  # NaN and infinity are missing
    again = Preprocessor.from_tensors(made.to_tensors(), made.to_json())
    np.testing.assert_array_equal(again.apply(raw).aux, batch.aux)
    assert again.digest() == made.digest() != plain.digest()
    tensors = made.to_tensors()
    del tensors["aux.floor"]
    with pytest.raises(ValueError, match="aux: expected the arrays mean, scale and floor"):
        Preprocessor.from_tensors(tensors, made.to_json())


def _without(key: str) -> Any:
    return lambda tensors, facts: tensors.pop(key)


def _cut(tensors: Any, facts: Any) -> None:
    tensors["visual.mean"] = tensors["visual.mean"][:-1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without("visual.mean"), "visual: missing or unknown arrays: mean"),
        (_without("aux.scale"), "aux: expected the arrays mean and scale"),
        (_without("audio.components"), "audio: components and explained_variance"),
        (_cut, r"visual.mean: shape \(7,\), not \(8,\)"),
        (lambda t, f: t.update({"audio.mean": t["audio.mean"] * np.nan}), "not finite"),
        (lambda t, f: t.update({"audio.scale": t["audio.scale"] * 0}), "not positive"),
        (lambda t, f: t.update({"depth.mean": t["audio.mean"]}), "undescribed arrays of depth"),
        (lambda t, f: t.update({"audio.std": t["audio.mean"]}), "audio: .*unknown arrays: std"),
        (lambda t, f: f.pop("streams"), "description is incomplete"),
        (lambda t, f: f.update(format=9), "format 9, expected 1"),
        (lambda t, f: f["config"].update(visual=4), "visual.components: the settings say 4"),
        (lambda t, f: f["config"].update(colour=4), "colour"),
        (lambda t, f: f["streams"]["audio"].pop("rows"), "audio: a fact is missing"),
        (lambda t, f: f["streams"]["audio"].update(groups=[[1, 7, "audio"]]), "gap or overlap"),
        (lambda t, f: f["streams"]["audio"].update(groups=[[0, 7, "hand"]]), "unknown mask"),
    ],
)
def test_a_damaged_store_is_refused(damage: Any, message: str) -> None:
    preprocessor = _preprocessor()
    tensors, facts = preprocessor.to_tensors(), json.loads(json.dumps(preprocessor.to_json()))
    damage(tensors, facts)
    with pytest.raises(ValueError, match=message):
        Preprocessor.from_tensors(tensors, facts)


def test_clips_that_do_not_fit_are_refused() -> None:
    preprocessor, raw = _preprocessor(), _raw()
    with pytest.raises(ValueError, match="no visual"):
        preprocessor.apply(replace(raw, streams={}))
    with pytest.raises(ValueError, match="audio: width 8, but fitted on 7"):
        preprocessor.apply(
            replace(raw, streams={**raw.streams, "audio": np.zeros((5, 12, 8), np.float16)})
        )
    with pytest.raises(ValueError, match="aux: none values, but fitted on 3"):
        preprocessor.apply(replace(raw, aux=None))


def test_layouts_cover_the_columns() -> None:
    with pytest.raises(ValueError, match="there is no such stream"):
        stream_layout("smell", 3)
    with pytest.raises(ValueError, match="64 columns, but the masks are known for 6"):
        stream_layout("lowlevel", 64, LOWLEVEL)
    with pytest.raises(ValueError, match="no columns"):
        StreamLayout("audio", ())


@pytest.mark.parametrize("wrong", [{"visual": 0}, {"winsorise": -1}, {"faceless": "mean"}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PreprocessorConfig(**wrong)


def test_the_report_says_what_was_kept_and_what_was_expected() -> None:
    lines = _preprocessor().report()
    assert [line.split(":")[0] for line in lines] == ["visual", "audio", "landmarks"]
    # variances 3, 2, 1 of 8: 75 %
    assert "8 -> 3 dimensions keep 75.0% of the variance over 1,000 frames" in lines[0]
    assert "LESS than expected (>= 95%)" in lines[0]
    assert "9 -> 4" in lines[2]
    assert "as expected (>= 85%)" in lines[2]
