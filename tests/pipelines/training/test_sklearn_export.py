"""The exported scikit-learn pipeline gives what the preprocessor gives."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from actors.raw_clips import raw_clips
from model.preprocessor_config import PreprocessorConfig
from pipelines.storage import Store
from pipelines.training.fit_preprocessor import fit_preprocessor
from pipelines.training.sklearn_export import to_sklearn
from tests.pipelines.training.fit_shards import WIDTHS, draw, table, write

STREAMS = ("visual", "audio", "landmarks", "action_units", "lowlevel")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("more", [{}, {"winsorise": 1.5, "whiten": True}])
def test_the_export_gives_the_same_numbers(tmp_path: Path, more: dict) -> None:
    clips = draw(12)
    config = PreprocessorConfig(visual=5, audio=4, landmarks=6, **more)
    found = fit_preprocessor(
        Store.at(tmp_path), write(tmp_path, clips, 1), config, STREAMS, cpus_per_worker=0.5
    )
    other = draw(5, seed=1)  # not the clips of the fit
    other.frame[:], other.face[:], other.audio[:] = True, True, True
    for values in other.streams.values():
        values[values == 77] = np.nan
    batch = found.apply(raw_clips(table(other, np.arange(5)), STREAMS))
    for name in STREAMS:
        pipeline = pickle.loads(pickle.dumps(to_sklearn(found, name)))
        want = pipeline.transform(other.streams[name].reshape(-1, WIDTHS[name]).astype(float))
        got = batch.streams[name].numpy().reshape(want.shape)
        # Relative to the spread of a dimension over the clips of the fit.
        spread = want.std(axis=0) + 1e-3
        assert (np.abs(got - want) / spread).max() < 1e-4
        if name in ("visual", "audio", "landmarks"):
            pca = pipeline.named_steps["pca"]
            assert pca.explained_variance_ratio_.sum() == pytest.approx(
                found.streams[name].explained
            )
            back = pipeline.named_steps["pca"].inverse_transform(want)  # its other methods work
            assert back.shape == (len(want), WIDTHS[name])
    with pytest.raises(ValueError, match="not fitted on 'depth'"):
        to_sklearn(found, "depth")
