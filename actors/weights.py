"""Weights of the backbones: ``pretrained``, a path or URI, or ``seeded``; never one for another.

Weights that cannot be had are an error that says what is missing, how to get it and how to choose
something else; nothing here falls back silently. Every source yields a digest that goes into the
rows, and seeded (random) weights, or those learned from made-up faces, mark their rows as a
demonstration.
"""

import contextlib
import hashlib
import math
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import nn

    State: TypeAlias = dict[str, torch.Tensor]

SEEDED = "seeded"
PRETRAINED = "pretrained"
SEED_VERSION = "v1"  # raise when the seeded initialisation changes
_CHUNK = 1 << 22  # bytes read at once
_SHOWN = 4  # keys named in a message


class WeightsError(ValueError):
    """Weights cannot be used; the message says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What a source of weights gave.

    ``state`` is None for seeded weights: the caller initialises (:func:`seeded_init`).
    ``digest`` is the first 16 hex digits of the SHA-256 of the file's bytes, or
    ``seeded-<what>-v1``. ``metadata`` is the text that a safetensors file carries.
    """

    state: "State | None"
    digest: str
    demonstration: bool
    source: str  # without credentials, for messages and reports
    metadata: dict[str, str] = field(default_factory=dict)


def clean_uri(uri: str) -> str:
    """Return ``uri`` without user, password, query and fragment, so that it may be shown."""
    if "://" not in uri:
        return uri
    scheme, rest = uri.split("://", 1)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def seeded(what: str) -> LoadedWeights:
    """Return the record of seeded weights for the backbone ``what``."""
    return LoadedWeights(None, f"{SEEDED}-{_slug(what)}-{SEED_VERSION}", True, SEEDED)


def load_state(
    source: str,
    *,
    what: str,
    setting: str,
    get: str,
    pretrained: "Callable[[], LoadedWeights] | None" = None,
) -> LoadedWeights:
    """Read the weights that ``source`` names.

    Args:
        source: ``pretrained``, ``seeded``, or the path or URI (any fsspec protocol) of a
            safetensors or PyTorch file. A PyTorch file may nest its tensors in ``state_dict``; a
            ``module.`` prefix is removed.
        what: The backbone's name for messages and for the seeded digest, such as ``ResNet101``.
        setting: The configuration key that chooses, such as ``visual.weights``.
        get: One sentence that says how to get these weights.
        pretrained: Finds or downloads the published weights; None when nothing can be downloaded.

    Raises:
        WeightsError: Missing, unreadable, or not a file of weights.
    """
    if source == SEEDED:
        return seeded(what)
    if source == PRETRAINED:
        if pretrained is None:
            raise WeightsError(
                f"{what}: there is no download for {setting}={PRETRAINED}. {get} {_choose(setting)}"
            )
        return pretrained()
    with local_copy(source, what=what, setting=setting, get=get) as path:
        if path.is_dir():
            raise WeightsError(
                f"{what}: {clean_uri(source)} is a folder; {setting} needs a file. {get}"
            )
        return LoadedWeights(
            read_file(path, what=what, shown=clean_uri(source)),
            file_digest(path),
            False,
            clean_uri(source),
            metadata_of(path),
        )


@contextlib.contextmanager
def local_copy(source: str, *, what: str, setting: str, get: str) -> Iterator[Path]:
    """Yield a local path of the file or folder at ``source``; a temporary copy when remote."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    shown = clean_uri(source)
    with tempfile.TemporaryDirectory(prefix="talkmos-weights-") as folder:
        try:
            fs, path = fsspec.url_to_fs(source)
            if isinstance(fs, LocalFileSystem):
                found = Path(path)
                if not found.exists():
                    raise FileNotFoundError(path)
            else:
                found = Path(folder) / (Path(path).name or "weights")
                if fs.isdir(path):
                    fs.get(path.rstrip("/") + "/", f"{found}/", recursive=True)
                else:
                    fs.get_file(path, str(found))
        # The storage's own error is cut off: it may repeat the credentials of the URI.
        except FileNotFoundError:
            raise WeightsError(
                f"{what}: no weights at {shown} ({setting}). {get} {_choose(setting)}"
            ) from None
        except Exception as error:  # noqa: BLE001 - storage libraries share no base class
            reason = str(error).replace(source, shown)
            raise WeightsError(
                f"{what}: cannot read {shown} ({setting}): {type(error).__name__}: {reason}"
            ) from None
        yield found


def read_file(path: Path, *, what: str, shown: str) -> "State":
    """Read the tensors of a safetensors or PyTorch file on the CPU; code in pickles is refused.

    Raises:
        WeightsError: The file is not a dictionary of tensors in one of these formats.
    """
    import torch

    try:
        if _is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        loaded: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{what}: {shown} is not a file of weights, or its pickle holds more than tensors and "
            "could run code, which is refused. Save the tensors alone: "
            "torch.save(model.state_dict(), path), or as safetensors."
        ) from error
    except Exception as error:  # each format raises its own class for damaged bytes
        raise WeightsError(
            f"{what}: {shown} is not a file of weights (neither safetensors nor a PyTorch state "
            f"dictionary), or it is damaged: {type(error).__name__}."
        ) from error
    return _flatten(loaded, what=what, shown=shown)


def _flatten(loaded: Any, *, what: str, shown: str) -> "State":
    import torch

    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not any(
        isinstance(v, torch.Tensor) for v in loaded.values()
    ):
        raise WeightsError(
            f"{what}: {shown} holds no state dictionary (names -> tensors), but a "
            f"{type(loaded).__name__}."
        )
    state = {str(k): v for k, v in loaded.items() if isinstance(v, torch.Tensor)}
    return strip_prefix(state, "module.")


def strip_prefix(state: "State", prefix: str) -> "State":
    """Return ``state`` with ``prefix`` removed from the names that carry it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def fit_state(
    module: "nn.Module",
    state: "State",
    *,
    what: str,
    shown: str,
    ignore: tuple[str, ...] = (),
) -> None:
    """Copy ``state`` into ``module``; names and shapes must agree.

    Args:
        module: Receives the tensors.
        state: Names to tensors.
        what: The backbone's name for messages.
        shown: Where the tensors came from, without credentials.
        ignore: Prefixes of names that may be missing or unexpected (unused heads).

    Raises:
        WeightsError: Names the first few missing, unexpected and wrongly shaped tensors.
    """
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        shapes = [line.strip() for line in str(error).splitlines()[1:]]
        raise WeightsError(
            f"{what}: the tensors of {shown} have other shapes than this network: "
            f"{_some(shapes) or error}"
        ) from error
    missing = [k for k in result.missing_keys if not k.startswith(ignore or ("\0",))]
    unexpected = [k for k in result.unexpected_keys if not k.startswith(ignore or ("\0",))]
    # Counters of training steps: older files lack them and inference never reads them.
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise WeightsError(
            f"{what}: {shown} holds the weights of another network. "
            f"Missing: {_some(missing) or 'none'}. Unexpected: {_some(unexpected) or 'none'}."
        )


def file_digest(*paths: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def seeded_init(module: "nn.Module", name: str, *, gain: float = 1.0) -> None:
    """Fill ``module`` with random values that depend on ``name`` and each parameter's name alone.

    Convolutions and linear maps: normal with variance 2 / fan-in (He et al. 2015, section 2.2),
    biases 0; normalisations 1 and 0; other parameters normal with deviation 0.02. Every parameter
    has its own generator: the global one is neither read nor moved, and order does not matter.

    Args:
        module: Receives the values, on the CPU.
        name: Of the backbone; part of the seed.
        gain: Factor on the deviation of convolutions and linear maps.
    """
    import torch
    from torch import nn

    mappings = (nn.modules.conv._ConvNd, nn.Linear)
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    with torch.no_grad():
        for path, part in module.named_modules():
            for key, parameter in part.named_parameters(recurse=False):
                if key == "bias" and isinstance(part, (*mappings, *norms)):
                    parameter.zero_()
                elif isinstance(part, norms):
                    parameter.fill_(1.0)
                else:
                    seed = hashlib.sha256(f"{name}/{path}.{key}".encode()).digest()[:8]
                    generator = torch.Generator().manual_seed(int.from_bytes(seed, "big") >> 1)
                    deviation = 0.02
                    if isinstance(part, mappings):
                        deviation = gain * math.sqrt(2 / parameter[0].numel())
                    values = torch.empty(parameter.shape).normal_(0, deviation, generator=generator)
                    parameter.copy_(values)


def calibrate_batch_norm(
    module: "nn.Module", batches: "Iterable[torch.Tensor | tuple[torch.Tensor, ...]]"
) -> None:
    """Set the running statistics of every batch norm to the plain average over ``batches``.

    Runs on one thread, because sums over several threads round differently and the result must not
    depend on the machine's core count. The module ends in evaluation mode.
    """
    import torch
    from torch import nn

    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    threads = torch.get_num_threads()
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for batch in batches:
                module(*batch) if isinstance(batch, tuple) else module(batch)
    finally:
        torch.set_num_threads(threads)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()


def _slug(what: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", what.lower())


def _choose(setting: str) -> str:
    return (
        f"Or choose: {setting}=PATH (local path, s3://…), or {setting}={SEEDED} for a "
        "demonstration with random weights whose features mean nothing for real quality."
    )


def unavailable(what: str, setting: str, *, reason: str, get: str) -> WeightsError:
    """Return the error for published weights that are neither cached nor to be downloaded now."""
    return WeightsError(
        f"{what}: the published weights ({setting}={PRETRAINED}) are not cached here and cannot be "
        f"downloaded: {reason}. {get} {_choose(setting)}"
    )


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def metadata_of(path: Path) -> dict[str, str]:
    """Return the text that a safetensors file carries; nothing of any other file."""
    if not _is_safetensors(path):
        return {}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _is_safetensors(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:  # 8 bytes of header length, then JSON
        return file.read(9)[8:] == b"{"
