"""Masked sound: the same numbers as of a clip that never had any."""

import numpy as np
import pytest
import torch

from actors.descriptors import DESCRIPTOR_NAMES, Descriptors, DescriptorsConfig
from actors.lowlevel import LowLevel, LowLevelConfig
from actors.raw_clips import AUX_NAMES, LOWLEVEL_MASKS, SYNC_NAMES, RawClips
from actors.silence import SOUND_AUX, without_sound
from model.fitted_stream import FittedAux, FittedStream
from model.preprocessor import Preprocessor
from model.preprocessor_config import PreprocessorConfig, stream_layout
from tests.actors.test_descriptors import make_row

FRAMES = 120  # padding as well
AUDIO = 6  # columns are enough


def extracted(sounding):
    """A clip as extraction stores it; the streams of the backbones are made up."""
    row = make_row(sounding, frames=FRAMES)
    (row,) = Descriptors(DescriptorsConfig())([row])
    (row,) = LowLevel(LowLevelConfig())([row])
    sync = [4.0, -2.0, 6.5, 7.5] if sounding else [np.nan] * 4
    said = dict(zip(SYNC_NAMES, sync, strict=True)) | row["descriptors"]
    aux = [np.nan if said[name] is None else said[name] for name in AUX_NAMES]
    audio = np.random.default_rng(1).standard_normal((1, 150, AUDIO)).astype(np.float16)
    audio[:, FRAMES:] = 0
    return RawClips(
        streams={"audio": audio * np.float16(sounding), "lowlevel": row["lowlevel"][None]},
        frame_mask=row["frame_mask"][None],
        face_mask=row["face_mask"][None],
        audio_mask=row["audio_mask"][None],
        aux=np.array([aux], np.float32),
        video_id=(),
        clip_index=np.empty(0, np.int32),
        start_s=np.empty(0),
        end_s=np.empty(0),
    )


def preprocessor(**settings):
    rng = np.random.default_rng(0)
    fitted = []
    for name, width in (("audio", AUDIO), ("lowlevel", 64)):
        layout = stream_layout(name, width, LOWLEVEL_MASKS)
        statistics = {
            "median": rng.standard_normal(width),
            "mean": rng.standard_normal(width),
            "scale": rng.uniform(0.5, 2, width),
        }
        if name == "audio":
            axes = np.linalg.qr(rng.standard_normal((width, 3)))[0].T
            statistics |= {"components": axes, "explained_variance": np.ones(3)}
        fitted.append(
            FittedStream(layout, (10,) * len(layout.groups), filled=0, empty=0, **statistics)
        )
    aux = FittedAux(AUX_NAMES, rng.standard_normal(len(AUX_NAMES)), np.ones(len(AUX_NAMES)))
    return Preprocessor(PreprocessorConfig.model_validate(settings), fitted, aux)


@pytest.mark.parametrize("settings", [{}, {"mask_padding": False}, {"faceless": "zeros"}])
def test_a_masked_clip_is_reduced_as_one_without_sound(settings):
    recipe = preprocessor(**settings)
    sounding, silent = extracted(True), extracted(False)
    found = recipe.apply(without_sound(sounding, AUX_NAMES))
    wanted = recipe.apply(silent)
    for name in ("audio", "lowlevel"):
        assert torch.equal(found.streams[name], wanted.streams[name])
        assert torch.equal(found.present[name], wanted.present[name])
    assert torch.equal(found.frame_mask, wanted.frame_mask)
    assert torch.equal(found.aux, wanted.aux)
    assert torch.equal(found.aux_present, wanted.aux_present)
    assert not found.present["audio"].any()
    before = recipe.apply(sounding)  # which is none of that
    assert before.present["audio"].any()
    assert not torch.equal(before.streams["lowlevel"], wanted.streams["lowlevel"])
    assert int(before.aux_present.sum()) > int(wanted.aux_present.sum())


def test_exactly_the_values_of_sound_are_taken_away():
    with_sound, without = (extracted(s).aux[0] for s in (True, False))
    assert np.isfinite(with_sound).all()
    lost = {name for name, value in zip(AUX_NAMES, without, strict=True) if np.isnan(value)}
    assert lost == SOUND_AUX
    kept = [AUX_NAMES.index(name) for name in DESCRIPTOR_NAMES if name not in SOUND_AUX]
    np.testing.assert_array_equal(with_sound[kept], without[kept])


def test_the_clips_given_stay_as_they_are():
    clips = extracted(True)
    before = clips.aux.copy(), clips.audio_mask.copy()
    without_sound(clips, AUX_NAMES)
    np.testing.assert_array_equal(clips.aux, before[0])
    np.testing.assert_array_equal(clips.audio_mask, before[1])
