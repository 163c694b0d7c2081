"""The preprocessor of one stream as a scikit-learn pipeline."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from model.preprocessor import Preprocessor


def to_sklearn(preprocessor: "Preprocessor", stream: str) -> Any:
    """Return a fitted ``sklearn.pipeline.Pipeline`` with the statistics of ``stream``.

    Steps: `imputer` (SimpleImputer, medians), `winsoriser` (FunctionTransformer, when there is
    winsorising), `scaler` (StandardScaler) and `pca` (PCA, for a reduced stream). It takes the
    rows of frames [n, D] that hold data, NaN where values are missing, and returns [n, K] in
    float64.

    Raises:
        ValueError: The preprocessor was not fitted on ``stream``.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    fitted = preprocessor.streams.get(stream)
    if fitted is None:
        known = ", ".join(preprocessor.streams)
        raise ValueError(f"the preprocessor was not fitted on {stream!r}, but on {known}")
    # Fitting on rows whose statistics are known sets also what the library keeps to itself.
    steps: list[tuple[str, Any]] = [
        ("imputer", SimpleImputer(strategy="median").fit(fitted.median[None]))
    ]
    if fitted.low is not None:
        clip = FunctionTransformer(np.clip, kw_args={"a_min": fitted.low, "a_max": fitted.high})
        steps.append(("winsoriser", clip.fit(fitted.median[None])))
    scaler = StandardScaler().fit(np.zeros((2, fitted.layout.width)))
    scaler.mean_ = fitted.mean.copy()
    scaler.scale_ = fitted.scale.copy()
    scaler.var_ = fitted.scale**2
    scaler.n_samples_seen_ = fitted.rows[0]
    steps.append(("scaler", scaler))
    if fitted.components is not None:
        steps.append(("pca", _pca(preprocessor, stream)))
    return Pipeline(steps)


def _pca(preprocessor: "Preprocessor", stream: str) -> Any:
    from sklearn.decomposition import PCA

    fitted = preprocessor.streams[stream]
    assert fitted.components is not None
    assert fitted.explained_variance is not None
    count, width = fitted.components.shape
    rows = fitted.rows[0]
    noise = np.random.default_rng(0).standard_normal((count, width))
    pca = PCA(count, whiten=preprocessor.config.whiten, svd_solver="full").fit(noise)
    pca.components_ = fitted.components.copy()
    pca.explained_variance_ = fitted.explained_variance.copy()
    total = fitted.total_variance
    pca.explained_variance_ratio_ = fitted.explained_variance / (total or 1.0)
    pca.singular_values_ = np.sqrt(fitted.explained_variance * max(rows - 1, 1))
    pca.mean_ = np.zeros(width)
    pca.n_samples_ = rows
    rest = min(width, rows) - count
    kept = float(fitted.explained_variance.sum())
    pca.noise_variance_ = max(total - kept, 0.0) / rest if rest > 0 else 0.0
    return pca
