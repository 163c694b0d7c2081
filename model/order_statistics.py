"""Exact quantiles of streamed float16 or float32 rows in fixed memory, by counting.

The bits of a float, read as an integer whose order is that of the values, are searched from the
top: each pass over the rows counts how many values fall into each of a few hundred equal parts of
an interval, and the part that holds the wanted rank is the interval of the next pass (selection by
radix). Counts add up, so rows may be counted anywhere and in any order. float16 takes two passes,
float32 three. NaN and infinite values are left out; rank and interpolation are those of
:func:`numpy.quantile`, so the median of an even count is the mean of its two middle values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Keys = NDArray[np.unsignedinteger[Any]]

BITS: Final = {"float16": 8, "float32": 11}  # of a pass: 256 and 2048 counters a column
ROWS: Final = 1024  # counted at a time


@dataclass(frozen=True, slots=True)
class _Order:
    """Floats of one type as unsigned integers; the finite ones are 0..top in their order."""

    unsigned: np.dtype[Any]
    sign: int  # the sign bit
    first: int  # key of the lowest finite value, before it is taken as 0
    top: int

    @classmethod
    def of(cls, dtype: DTypeLike) -> "_Order":
        kind = np.dtype(dtype)
        if kind.name not in BITS:
            raise ValueError(f"order statistics are for float16 and float32, not {kind.name}")
        unsigned = np.dtype(f"u{kind.itemsize}")
        sign = 1 << (8 * kind.itemsize - 1)
        largest = int(np.array(np.finfo(kind).max, kind).view(unsigned))
        first = ~(largest | sign) & (2 * sign - 1)
        return cls(unsigned, sign, first, (largest | sign) - first)

    def keys(self, rows: NDArray[np.floating[Any]]) -> Keys:
        """Keys of ``rows``; those of NaN and infinite values are above ``top``."""
        bits: Keys = np.ascontiguousarray(rows).view(self.unsigned)
        # All bits of negative values are turned, only the sign of the others.
        turn = -(bits >> (8 * self.unsigned.itemsize - 1)) | self.unsigned.type(self.sign)
        bits = turn ^ bits
        bits -= self.unsigned.type(self.first)  # -inf and negative NaN wrap round to the top
        return bits

    def values(self, keys: I64) -> F64:
        """Invert :meth:`keys`."""
        bits = keys + self.first
        bits = np.where(bits & self.sign, bits ^ self.sign, ~bits & (2 * self.sign - 1))
        floats = bits.astype(self.unsigned).view(f"f{self.unsigned.itemsize}")
        return floats.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Layer:
    """One interval of keys in each of some columns, cut into equal parts.

    Attributes:
        columns: [C] which columns.
        low: [C] first key.
        span: [C] last key - first key.
        shift: [C] a part is 2 ** shift keys.
    """

    columns: I64
    low: I64
    span: I64
    shift: I64


@dataclass(frozen=True, slots=True)
class CountRequest:
    """What one pass has to count; travels to where the rows are."""

    dtype: str
    width: int
    layers: tuple[Layer, ...]


class Counter:
    """Counts of one pass.

    Attributes:
        counts: For each layer [C, parts] how many values fell into each part.
    """

    def __init__(self, request: CountRequest) -> None:
        self.request = request
        self.parts = 1 << BITS[request.dtype]
        self.counts = [np.zeros((len(x.columns), self.parts), np.int64) for x in request.layers]

    def add(self, rows: NDArray[np.floating[Any]]) -> None:
        """Count rows [n, D].

        Raises:
            ValueError: The width or type differs from the request.
        """
        width = self.request.width
        if rows.ndim != 2 or rows.shape[1] != width or rows.dtype != self.request.dtype:
            wanted = f"{self.request.dtype} rows of width {width}"
            raise ValueError(f"expected {wanted}, got {rows.dtype} of shape {rows.shape}")
        order = _Order.of(rows.dtype)
        for start in range(0, len(rows), ROWS):
            keys = order.keys(rows[start : start + ROWS])
            for layer, counts in zip(self.request.layers, self.counts, strict=True):
                part = keys if len(layer.columns) == width else keys[:, layer.columns]
                self._count(part - layer.low.astype(keys.dtype), layer, counts)

    def _count(self, keys: Keys, layer: Layer, counts: I64) -> None:
        """Count keys [n, C] that are relative to the first key of the interval."""
        columns = len(layer.columns)
        shift = layer.shift.astype(keys.dtype)
        inside = keys <= layer.span.astype(keys.dtype)  # keys below wrapped round
        if 2 * np.count_nonzero(inside) > inside.size:
            place = (keys >> shift) + np.arange(columns) * self.parts
            place = place.ravel() if inside.all() else place[inside]
        else:
            at = np.flatnonzero(inside)
            column = at % columns
            place = (keys.ravel()[at] >> shift[column]) + column * self.parts
        counts += np.bincount(place, minlength=counts.size).reshape(counts.shape)

    def merge(self, other: "Counter") -> None:
        """Add the counts of other rows for the same request."""
        pairs = zip(self.counts, other.counts, strict=True)
        self.counts = [mine + theirs for mine, theirs in pairs]


class QuantileSearch:
    """Finds quantiles of each column: ask :meth:`request`, count, :meth:`update`; until None.

    Args:
        dtype: float16 or float32.
        width: Columns D.
        quantiles: Each in [0, 1].
    """

    def __init__(self, dtype: DTypeLike, width: int, quantiles: Sequence[float] = (0.5,)) -> None:
        self._order = _Order.of(dtype)
        self._dtype = np.dtype(dtype).name
        self.width = width
        self.quantiles = tuple(quantiles)
        # Slots 2q and 2q + 1 search the values next below and above quantile q.
        slots = 2 * len(self.quantiles)
        self._low = np.zeros((slots, width), np.int64)
        self._high = np.full((slots, width), self._order.top, np.int64)
        self._below = np.zeros((slots, width), np.int64)  # values below the interval
        self._rank = np.zeros((slots, width), np.int64)
        self._owner = np.zeros((slots, width), np.int64)
        self._request: CountRequest | None = None
        self._valid: I64 | None = None

    @property
    def valid(self) -> I64:
        """Finite values of each column [D]; known after the first pass."""
        if self._valid is None:
            raise ValueError("nothing has been counted yet")
        return self._valid

    def request(self) -> CountRequest | None:
        """Return what the next pass has to count; None when the search is over."""
        open_ = self._low < self._high
        slots = len(self._low)
        self._owner = np.tile(np.arange(slots)[:, None], (1, self.width))
        for slot in range(slots):
            for earlier in range(slot - 1, -1, -1):  # slots with one interval share its counts
                same = (self._low[slot] == self._low[earlier]) & (
                    self._high[slot] == self._high[earlier]
                )
                self._owner[slot] = np.where(same, earlier, self._owner[slot])
        layers = []
        for slot in range(slots):
            columns = np.flatnonzero(open_[slot] & (self._owner[slot] == slot))
            low = self._low[slot, columns]
            span = self._high[slot, columns] - low
            length = np.frexp(span.astype(np.float64))[1]  # bits
            shift = np.maximum(length - BITS[self._dtype], 0).astype(np.int64)
            layers.append(Layer(columns, low, span, shift))
        some = any(len(layer.columns) for layer in layers)
        self._request = CountRequest(self._dtype, self.width, tuple(layers)) if some else None
        return self._request

    def update(self, counter: Counter) -> None:
        """Narrow the search by the counts, over all rows, of the last request."""
        request = self._request
        if request is None:
            raise ValueError("there is no open request")
        if [x.shape[0] for x in counter.counts] != [len(x.columns) for x in request.layers]:
            raise ValueError("these are counts of another request")
        if self._valid is None:
            self._valid = counter.counts[0].sum(axis=1)
            for q, quantile in enumerate(self.quantiles):
                below = np.floor(quantile * np.maximum(self._valid - 1, 0)).astype(np.int64)
                self._rank[2 * q] = below
                self._rank[2 * q + 1] = np.minimum(below + 1, np.maximum(self._valid - 1, 0))
            self._high[:, self._valid == 0] = 0  # nothing to search for
        for owner, layer in enumerate(request.layers):
            upto = np.cumsum(counter.counts[owner], axis=1)
            for slot in range(owner, len(self._low)):
                mine = (self._owner[slot, layer.columns] == owner) & (
                    self._low[slot, layer.columns] < self._high[slot, layer.columns]
                )
                if mine.any():
                    self._narrow(slot, layer, upto, np.flatnonzero(mine))
        self._request = None

    def _narrow(self, slot: int, layer: Layer, upto: I64, mine: I64) -> None:
        columns = layer.columns[mine]
        wanted = self._rank[slot, columns] - self._below[slot, columns]
        part = (upto[mine] <= wanted[:, None]).sum(axis=1)
        before = np.where(part > 0, upto[mine, np.maximum(part - 1, 0)], 0)
        low = layer.low[mine] + (part << layer.shift[mine])
        high = low + (1 << layer.shift[mine]) - 1
        self._below[slot, columns] += before
        self._high[slot, columns] = np.minimum(high, self._high[slot, columns])
        self._low[slot, columns] = low

    def result(self) -> F64:
        """Quantiles [Q, D], interpolated linearly; NaN in a column without finite values.

        Raises:
            ValueError: The search is not over.
        """
        if self._valid is None or (self._low < self._high).any():
            raise ValueError("the search is not over")
        ends = self._order.values(self._low)
        out = np.full((len(self.quantiles), self.width), np.nan)
        for q, quantile in enumerate(self.quantiles):
            place = quantile * np.maximum(self._valid - 1, 0)
            share = place - np.floor(place)
            value = ends[2 * q] * (1 - share) + ends[2 * q + 1] * share
            out[q] = np.where(self._valid > 0, value, np.nan)
        return out


def quantiles(rows: NDArray[np.floating[Any]], which: Sequence[float] = (0.5,)) -> F64:
    """Exact quantiles [Q, D] of the finite values of rows [n, D] that are at hand."""
    search = QuantileSearch(rows.dtype, rows.shape[1], which)
    while (request := search.request()) is not None:
        counter = Counter(request)
        counter.add(rows)
        search.update(counter)
    return search.result()
