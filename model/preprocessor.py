"""Raw streams -> reduced clips: fill, clip, z-score, project (SPEC section 5).

Legend: B clips, T time steps, D raw width of a stream, K its reduced width, A auxiliary values.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from model.batch import STREAMS, ClipBatch
from model.fitted_stream import FittedAux, FittedStream
from model.preprocessor_config import FrameMasks, PreprocessorConfig

FORMAT: Final = 1


class RawBatch(Protocol):
    """Raw clips, as :class:`actors.raw_clips.RawClips` holds them."""

    @property
    def streams(self) -> Mapping[str, NDArray[Any]]:
        """Name -> [B, T, D] float16 or float32."""

    @property
    def frame_mask(self) -> NDArray[np.bool_]:
        """[B, T] real frames."""

    @property
    def face_mask(self) -> NDArray[np.bool_]:
        """[B, T] the main face was found."""

    @property
    def audio_mask(self) -> NDArray[np.bool_]:
        """[B, T] there is sound."""

    @property
    def aux(self) -> NDArray[Any] | None:
        """[B, A] auxiliary values; NaN where missing."""


@dataclass(frozen=True, slots=True)
class _OnDevice:
    """The arrays of a stream as the device uses them."""

    mean: Tensor  # [D]
    filled: Tensor  # [D] what a missing value becomes once the mean is taken off
    low: Tensor | None
    high: Tensor | None
    scale: Tensor | None  # [D] when there is no projection
    weight: Tensor | None  # [K, D] projection of the centred values


class Preprocessor:
    """The fitted preprocessor.

    Args:
        config: The settings it was fitted with.
        streams: What was learned of each stream, in the order of ``STREAMS``.
        aux: What was learned of the auxiliary vector.
        device: Where :meth:`apply` computes.
        dtype: In which it computes and what it returns; float32 or float64.
    """

    def __init__(
        self,
        config: PreprocessorConfig,
        streams: Sequence[FittedStream],
        aux: FittedAux | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        by_name = {fitted.layout.name: fitted for fitted in streams}
        if unknown := set(by_name) - set(STREAMS):
            raise ValueError(f"there is no such stream: {', '.join(sorted(unknown))}")
        self.config = config
        self.streams = {name: by_name[name] for name in STREAMS if name in by_name}
        self.aux = aux
        self.device = torch.device(device)
        self.dtype = dtype
        self._ready = {name: self._prepare(fitted) for name, fitted in self.streams.items()}

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Preprocessor":
        """Return the same preprocessor for another device or number format."""
        fitted = tuple(self.streams.values())
        return Preprocessor(self.config, fitted, self.aux, device=device, dtype=dtype or self.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as plain arrays, to the CPU of the other process."""
        return _rebuild, (self.config, tuple(self.streams.values()), self.aux, self.dtype)

    @property
    def widths(self) -> dict[str, int]:
        """Reduced width K of each stream."""
        return {name: fitted.width for name, fitted in self.streams.items()}

    @property
    def aux_names(self) -> tuple[str, ...]:
        """Names of the auxiliary values, in order."""
        return () if self.aux is None else self.aux.names

    @property
    def aux_width(self) -> int:
        """A; 0 without an auxiliary vector."""
        return len(self.aux_names)

    # --- applying

    def _prepare(self, fitted: FittedStream) -> _OnDevice:
        def put(array: NDArray[np.float64] | None) -> Tensor | None:
            return None if array is None else torch.tensor(array).to(self.device, self.dtype)

        weight = None
        if fitted.components is not None:
            assert fitted.explained_variance is not None
            weight = fitted.components / fitted.scale
            if self.config.whiten:
                # As scikit-learn: directions without variance stay near 0.
                tiny = np.finfo(np.float64).eps
                spread = np.sqrt(fitted.explained_variance)
                weight = weight / np.maximum(spread, tiny)[:, None]
        mean, filled = put(fitted.mean), put(fitted.median - fitted.mean)
        assert mean is not None
        assert filled is not None
        scale = None if weight is not None else put(fitted.scale)
        return _OnDevice(mean, filled, put(fitted.low), put(fitted.high), scale, put(weight))

    def apply(self, raw: RawBatch) -> ClipBatch:
        """Reduce a batch of raw clips.

        Trailing padding is cut: T of the result is the last real frame of the longest clip + 1.
        Values where a stream is not present are 0.

        Returns:
            The batch on this preprocessor's device, with the streams that were fitted.

        Raises:
            ValueError: A stream or the auxiliary vector is missing or has another width.
        """
        masks = FrameMasks(raw.frame_mask, raw.face_mask, raw.audio_mask, self.config)
        frames = masks.frames()
        used = np.flatnonzero(frames.any(axis=0))
        steps = int(used[-1]) + 1 if len(used) else 1
        streams, present = {}, {}
        for name, fitted in self.streams.items():
            if name not in raw.streams:
                raise ValueError(f"the clips have no {name}, which the preprocessor was fitted on")
            values = raw.streams[name]
            if values.shape[2] != fitted.layout.width:
                width = fitted.layout.width
                raise ValueError(f"{name}: width {values.shape[2]}, but fitted on {width}")
            present[name] = self._send(masks.present(name)[:, :steps])
            reduced = self._reduce(name, self._send(values[:, :steps]), masks, steps)
            streams[name] = torch.where(present[name][..., None], reduced, 0.0)
        aux, aux_present = self._standardise(raw.aux)
        return ClipBatch(streams, present, self._send(frames[:, :steps]), aux, aux_present)

    def _send(self, array: NDArray[Any]) -> Tensor:
        """Copy to the device; the copy is ours to change even where ``array`` is read-only."""
        pin = self.device.type == "cuda"
        kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
        out = torch.empty(array.shape, dtype=kind, pin_memory=pin)
        np.copyto(out.numpy(), array)
        return out.to(self.device, non_blocking=pin)

    def _reduce(self, name: str, values: Tensor, masks: FrameMasks, steps: int) -> Tensor:
        """[B, T, D] -> [B, T, K]."""
        part, groups = self._ready[name], self.streams[name].layout.groups
        x = values.to(self.dtype)
        kept = torch.isfinite(x)
        for group in groups:
            columns = (slice(None), slice(None), slice(group.start, group.stop))
            if (zero := masks.zeros(group.mask)[:, :steps]).any():
                at = self._send(zero)[..., None]
                x[columns] = torch.where(at, 0.0, x[columns])
                kept[columns] |= at
            if not (valid := masks.valid(group.mask)[:, :steps]).all():
                kept[columns] &= self._send(valid)[..., None]
        if part.low is not None and part.high is not None:
            x = torch.maximum(torch.minimum(x, part.high), part.low)
        # Centred before it is projected: nothing cancels when the mean is large beside the spread.
        x = torch.where(kept, x - part.mean, part.filled)
        with torch.autocast(self.device.type, enabled=False):
            if part.weight is not None:
                return x @ part.weight.T
            assert part.scale is not None
            return x / part.scale

    def _standardise(self, aux: NDArray[Any] | None) -> tuple[Tensor | None, Tensor | None]:
        if self.aux is None:
            return None, None
        if aux is None or aux.shape[1] != len(self.aux.names):
            have = "none" if aux is None else aux.shape[1]
            raise ValueError(f"aux: {have} values, but fitted on {len(self.aux.names)}")
        kept = np.isfinite(aux)
        scaled = self.aux.standardised(np.where(kept, aux, 0.0))
        values = self._send(np.where(kept, scaled, 0.0)).to(self.dtype)
        return values, self._send(kept)

    # --- storing

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all arrays as float64 tensors, `<stream>.<array>` and `aux.<array>`."""
        arrays = {
            f"{name}.{key}": array
            for name, fitted in self.streams.items()
            for key, array in fitted.arrays().items()
        }
        if self.aux is not None:
            arrays |= {f"aux.{name}": array for name, array in self.aux.arrays().items()}
        return {key: torch.tensor(array, dtype=torch.float64) for key, array in arrays.items()}

    def to_json(self) -> dict[str, Any]:
        """Return everything else, as JSON types."""
        return {
            "format": FORMAT,
            "config": self.config.model_dump(mode="json"),
            "streams": {name: fitted.facts() for name, fitted in self.streams.items()},
            "aux_names": list(self.aux_names),
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> "Preprocessor":
        """Put together what :meth:`to_tensors` and :meth:`to_json` took apart.

        Raises:
            ValueError: Something is missing, unknown, of another shape or not finite; the message
                names it.
        """
        if facts.get("format") != FORMAT:
            raise ValueError(f"preprocessor: format {facts.get('format')!r}, expected {FORMAT}")
        try:
            config = PreprocessorConfig.model_validate(facts["config"])
            described, names = dict(facts["streams"]), tuple(facts["aux_names"])
        except (KeyError, TypeError, ValidationError) as error:
            raise ValueError(f"preprocessor: its description is incomplete: {error}") from None
        arrays: dict[str, dict[str, NDArray[np.float64]]] = {}
        for key, tensor in tensors.items():
            stream, _, name = key.partition(".")
            arrays.setdefault(stream, {})[name] = tensor.detach().cpu().double().numpy()
        if unknown := set(arrays) - set(described) - ({"aux"} if names else set()):
            raise ValueError(f"preprocessor: undescribed arrays of {', '.join(sorted(unknown))}")
        streams = []
        for name, what in described.items():
            fitted = FittedStream.of(name, arrays.get(name, {}), what)
            count = config.components(name)
            if (fitted.components is None) != (count is None) or fitted.width != (
                count or fitted.layout.width
            ):
                raise ValueError(f"{name}.components: the settings say {count}")
            streams.append(fitted)
        aux = None
        if names:
            found = arrays.get("aux", {})
            expected = {"mean", "scale", *(["floor"] if config.aux_log else [])}
            if set(found) != expected:
                said = "mean, scale and floor" if config.aux_log else "mean and scale"
                raise ValueError(f"aux: expected the arrays {said}")
            aux = FittedAux(names, **found)
        return cls(config, streams, aux)

    def digest(self) -> str:
        """Return 16 hex digits that change whenever a setting or a number does."""
        whole = hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode())
        for key, tensor in sorted(self.to_tensors().items()):
            whole.update(f"{key} {tuple(tensor.shape)} ".encode())
            whole.update(tensor.numpy().tobytes())
        return whole.hexdigest()[:16]

    def report(self) -> list[str]:
        """Say in a line a reduced stream what variance was kept, against what is expected."""
        lines = []
        for name, fitted in self.streams.items():
            facts = fitted.facts()
            if fitted.explained is None:
                continue
            expected = facts["expected_variance"]
            line = (
                f"{name}: {fitted.layout.width} -> {fitted.width} dimensions keep "
                f"{fitted.explained:.1%} of the variance over {fitted.rows[0]:,} frames"
            )
            if expected is not None:
                verdict = "as" if fitted.explained >= expected else "LESS than"
                line += f", {verdict} expected (>= {expected:.0%})"
            if self.config.winsorise is not None:
                values = sum(
                    rows * (group.stop - group.start)
                    for rows, group in zip(fitted.rows, fitted.layout.groups, strict=True)
                )
                line += f"; {fitted.clipped} values winsorised ({fitted.clipped / values:.2%})"
            lines.append(line)
        return lines


def _rebuild(
    config: PreprocessorConfig,
    streams: tuple[FittedStream, ...],
    aux: FittedAux | None,
    dtype: torch.dtype,
) -> Preprocessor:
    return Preprocessor(config, streams, aux, dtype=dtype)
