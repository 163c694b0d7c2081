"""What the preprocessor learned of a stream and of the auxiliary vector: plain arrays, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.preprocessor_config import EXPECTED_VARIANCE, ColumnGroup, StreamLayout

F64 = NDArray[np.float64]

_BOUNDS = ("low", "high")
_REDUCTION = ("components", "explained_variance")


@dataclass(frozen=True, slots=True)
class FittedStream:
    """Statistics of a stream over the training rows.

    Attributes:
        layout: Columns and their masks.
        rows: For each column group, rows that were fitted.
        filled: Values of fitted rows that were NaN or infinite.
        clipped: Values of fitted rows that winsorising moved to its bounds.
        empty: Dimensions without any finite value; they count as constantly 0.
        median: [D] replaces what is missing.
        low: [D] values below are clipped to it (None: no winsorising).
        high: [D] the same above.
        mean: [D] after filling and clipping.
        scale: [D] standard deviation (divisor n); 1 where there is no variance.
        components: [K, D] principal axes of the z-scores, or None: not reduced.
        explained_variance: [K] variance along them (divisor n - 1).
        total_variance: Of all dimensions of the z-scores together.
    """

    layout: StreamLayout
    rows: tuple[int, ...]
    filled: int
    empty: int
    median: F64
    mean: F64
    scale: F64
    low: F64 | None = None
    high: F64 | None = None
    components: F64 | None = None
    explained_variance: F64 | None = None
    total_variance: float = 0.0
    clipped: int = 0

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other or cannot be statistics."""
        for pair in (_BOUNDS, _REDUCTION):
            if (getattr(self, pair[0]) is None) != (getattr(self, pair[1]) is None):
                raise ValueError(f"{self.layout.name}: {' and '.join(pair)} belong together")
        width = self.layout.width
        count = 0 if self.components is None else len(self.components)
        shapes = {"components": (count, width), "explained_variance": (count,)}
        for name, array in self.arrays().items():
            want = shapes.get(name, (width,))
            if array.shape != want:
                raise ValueError(f"{self.layout.name}.{name}: shape {array.shape}, not {want}")
            if not np.isfinite(array).all():
                raise ValueError(f"{self.layout.name}.{name}: has values that are not finite")
        if (self.scale <= 0).any():
            raise ValueError(f"{self.layout.name}.scale: has values that are not positive")
        if len(self.rows) != len(self.layout.groups):
            raise ValueError(f"{self.layout.name}.rows: one number for each column group")

    @property
    def width(self) -> int:
        """Width after the preprocessor."""
        return self.layout.width if self.components is None else len(self.components)

    @property
    def explained(self) -> float | None:
        """Share of the variance that the components keep; None without reduction."""
        if self.explained_variance is None:
            return None
        total = self.total_variance
        return float(self.explained_variance.sum() / total) if total else 0.0

    def arrays(self) -> dict[str, F64]:
        """Return the arrays that are there, by name."""
        names = ("median", *_BOUNDS, "mean", "scale", *_REDUCTION)
        return {name: x for name in names if (x := getattr(self, name)) is not None}

    def facts(self) -> dict[str, Any]:
        """Return what is not an array, as JSON types."""
        return {
            "raw_width": self.layout.width,
            "width": self.width,
            "groups": [[g.start, g.stop, g.mask] for g in self.layout.groups],
            "rows": list(self.rows),
            "filled_values": self.filled,
            "clipped_values": self.clipped,
            "empty_dimensions": self.empty,
            "total_variance": self.total_variance,
            "explained_variance": self.explained,
            "expected_variance": EXPECTED_VARIANCE.get(self.layout.name)
            if self.components is not None
            else None,
        }

    @classmethod
    def of(cls, name: str, arrays: Mapping[str, F64], facts: Mapping[str, Any]) -> "FittedStream":
        """Put together what :meth:`arrays` and :meth:`facts` took apart.

        Raises:
            ValueError: Something is missing, unknown or does not fit.
        """
        known = {"median", "mean", "scale", *_BOUNDS, *_REDUCTION}
        wrong = ({"median", "mean", "scale"} - set(arrays)) | (set(arrays) - known)
        if wrong:
            raise ValueError(f"{name}: missing or unknown arrays: {', '.join(sorted(wrong))}")
        try:
            groups = tuple(ColumnGroup(int(a), int(b), mask) for a, b, mask in facts["groups"])
            if any(g.mask not in ("frame", "face", "audio") for g in groups):
                raise ValueError(f"{name}.groups: unknown mask")
            return cls(
                layout=StreamLayout(name, groups),
                rows=tuple(int(n) for n in facts["rows"]),
                filled=int(facts["filled_values"]),
                clipped=int(facts["clipped_values"]),
                empty=int(facts["empty_dimensions"]),
                total_variance=float(facts["total_variance"]),
                **arrays,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{name}: a fact is missing or of another kind: {error}") from None


def logarithms(values: F64, floor: F64 | None) -> F64:
    """Return log(max(x, 0) + floor) in the columns with a floor above 0, the others as they are.

    Args:
        values: [n, A]; NaN stays.
        floor: [A], or None for no column.
    """
    if floor is None:
        return values
    wanted = floor > 0
    logs = np.log(np.maximum(values, 0.0) + np.where(wanted, floor, 1.0))
    return np.where(wanted, logs, values)


@dataclass(frozen=True, slots=True)
class FittedAux:
    """Statistics of the auxiliary vector over the training clips, each [A].

    Attributes:
        names: Of the values.
        mean: Of the values, or of their logarithms.
        scale: Standard deviation of the same.
        floor: Where it is above 0, log(value + floor) stands for the value; None: nowhere.
    """

    names: tuple[str, ...]
    mean: F64
    scale: F64
    floor: F64 | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit the names."""
        for name, array in self.arrays().items():
            if array.shape != (len(self.names),) or not np.isfinite(array).all():
                raise ValueError(f"aux.{name}: expected {len(self.names)} finite values")
        if (self.scale <= 0).any():
            raise ValueError("aux.scale: has values that are not positive")
        if self.floor is not None and (self.floor < 0).any():
            raise ValueError("aux.floor: has negative values")

    def arrays(self) -> dict[str, F64]:
        """Return the arrays that are there, by name."""
        names = ("mean", "scale", "floor")
        return {name: x for name in names if (x := getattr(self, name)) is not None}

    def standardised(self, values: NDArray[np.floating]) -> F64:
        """Return [B, A] values as standard scores; NaN stays."""
        scores: F64 = (logarithms(values.astype(np.float64), self.floor) - self.mean) / self.scale
        return scores
