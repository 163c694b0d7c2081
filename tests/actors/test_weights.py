import hashlib
import io
import pickle

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from actors import weights
from actors.weights import WeightsError, clean_uri, fit_state, load_state, seeded_init

HINTS = {"what": "ResNet101", "setting": "visual.weights", "get": "Ask the harbour master."}
TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def put(uri: str, content: bytes) -> str:
    with fsspec.open(uri, "wb") as file:
        file.write(content)
    return uri


def torch_bytes(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/local/path?x@y", "/local/path?x@y"),
        ("s3://bucket/key.pt", "s3://bucket/key.pt"),
        ("s3://me:secret@bucket/key.pt", "s3://bucket/key.pt"),
        ("https://host/w.pt?X-Amz-Signature=abc#f", "https://host/w.pt"),
        ("https://u:p@ss@host:80/a@b/w.pt?q=a/b", "https://host:80/a@b/w.pt"),
    ],
)
def test_shown_uri_has_no_credentials(uri: str, shown: str) -> None:
    assert clean_uri(uri) == shown


def test_seeded_weights_say_so() -> None:
    loaded = load_state("seeded", **HINTS)
    assert loaded.state is None
    assert loaded.digest == "seeded-resnet101-v1"
    assert loaded.demonstration


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(save(TENSORS), id="safetensors"),
        pytest.param(torch_bytes(TENSORS), id="zip"),
        pytest.param(torch_bytes(TENSORS, _use_new_zipfile_serialization=False), id="pickle"),
        pytest.param(torch_bytes({"state_dict": TENSORS, "epoch": 3}), id="nested"),
        pytest.param(torch_bytes({f"module.{k}": v for k, v in TENSORS.items()}), id="parallel"),
    ],
)
@pytest.mark.parametrize("place", ["memory://models/w.bin", "{tmp}/w.bin"])
def test_formats_and_places(content: bytes, place: str, tmp_path: object) -> None:
    uri = put(place.format(tmp=tmp_path), content)
    loaded = load_state(uri, **HINTS)
    assert loaded.digest == hashlib.sha256(content).hexdigest()[:16]
    assert not loaded.demonstration
    assert loaded.state is not None
    assert loaded.state.keys() == TENSORS.keys()
    assert all(torch.equal(loaded.state[k], v) for k, v in TENSORS.items())


@pytest.mark.parametrize("uri", ["memory://nowhere/w.pt", "/nowhere/w.pt"])
def test_missing_file_says_what_where_and_how(uri: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_state(uri, **HINTS)
    for part in ("ResNet101", uri, "visual.weights=PATH", HINTS["get"], "visual.weights=seeded"):
        assert part in str(caught.value)


def test_nothing_to_download_says_so() -> None:
    with pytest.raises(WeightsError, match=r"no download for visual\.weights=pretrained"):
        load_state("pretrained", **HINTS)


@pytest.mark.parametrize("scheme", ["memory", "unknown"])
def test_errors_do_not_show_credentials(scheme: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_state(f"{scheme}://user:hunter2@host/w.pt?signature=hunter2", **HINTS)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None or "hunter2" not in str(caught.value.__cause__)


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle ran code",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(Malicious(), protocol=2), "refused"),
        (torch_bytes({"x": Malicious()}), "refused"),
        (b"", "not a file of weights"),
        (b"just text, long enough to look at", "not a file of weights"),
        (np.random.default_rng(0).bytes(5000), "not a file of weights"),
        (save(TENSORS)[:100], "not a file of weights"),
        (torch_bytes(TENSORS)[:400], "not a file of weights"),
        (torch_bytes({"epoch": 3}), "no state dictionary"),
        (torch_bytes([torch.ones(2)]), "no state dictionary"),
    ],
)
def test_other_files_are_refused(content: bytes, said: str) -> None:
    uri = put("memory://models/bad.pt", content)
    with pytest.raises(WeightsError, match=said) as caught:
        load_state(uri, **HINTS)
    assert "ResNet101" in str(caught.value)


def test_folder_is_refused(tmp_path: object) -> None:
    with pytest.raises(WeightsError, match="is a folder"):
        load_state(str(tmp_path), **HINTS)


def net() -> nn.Module:
    return nn.ModuleDict({"a": nn.Linear(3, 2), "norm": nn.BatchNorm1d(2)})


def test_fit_state_copies_and_forgives_counters_and_unused_heads() -> None:
    source, target = net(), net()
    state = {k: v for k, v in source.state_dict().items() if "num_batches" not in k}
    state["head.weight"] = torch.ones(1)
    fit_state(target, state, what="N", shown="w.pt", ignore=("head.",))
    assert torch.equal(target["a"].weight, source["a"].weight)


def test_fit_state_lists_the_first_differences() -> None:
    state = {f"other{i}": torch.ones(1) for i in range(6)}
    with pytest.raises(WeightsError) as caught:
        fit_state(net(), state, what="N", shown="w.pt")
    assert "Missing: a.weight, a.bias, norm.weight, norm.bias and 2 more" in str(caught.value)
    assert "Unexpected: other0, other1, other2, other3 and 2 more" in str(caught.value)


def test_fit_state_tells_shapes() -> None:
    state = net().state_dict() | {"a.weight": torch.ones(5, 3)}
    with pytest.raises(WeightsError, match=r"other shapes.*a\.weight.*\[5, 3\].*\[2, 3\]"):
        fit_state(net(), state, what="N", shown="w.pt")


def test_seeded_init_depends_on_names_only() -> None:
    layers = [nn.Sequential(nn.Conv2d(8, 64, 5), nn.BatchNorm2d(64), nn.Linear(64, 900))]
    seeded_init(layers[0], "x")
    layers.append(nn.Sequential(nn.Conv2d(8, 64, 5), nn.BatchNorm2d(64), nn.Linear(64, 900)))
    before = torch.get_rng_state()
    seeded_init(layers[1], "x")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.equal(a, b)
        for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True)
    )
    seeded_init(layers[1], "y")
    assert not torch.equal(layers[0][0].weight, layers[1][0].weight)
    # He et al. 2015: variance 2 / fan-in.
    assert layers[0][0].weight.std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.03)
    assert layers[0][2].weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert layers[0][2].bias.abs().max() == 0


def test_calibration_averages_over_batches() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3))
    batches = [
        torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(s)) * (s + 1) + s
        for s in range(3)
    ]
    threads = torch.get_num_threads()
    weights.calibrate_batch_norm(module, batches)
    assert torch.get_num_threads() == threads
    values = [b.numpy().transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64) for b in batches]
    mean = np.mean([v.mean(1) for v in values], axis=0)
    variance = np.mean([v.var(1, ddof=1) for v in values], axis=0)
    np.testing.assert_allclose(module[0].running_mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(module[0].running_var, variance, rtol=1e-5)
    assert module[0].momentum == 0.1
    assert not module[0].training
