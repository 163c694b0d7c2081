"""Distances, offset, LSE-D and LSE-C against plain loops written from the published definition."""

import numpy as np
import pytest
import torch
from scipy.signal import medfilt

from model.sync_measures import SyncMeasures, sync_distances, sync_measures, sync_score

V = 15


def _plain(lip: np.ndarray, sound: np.ndarray) -> tuple[np.ndarray, int, float, float, np.ndarray]:
    """The published measures, one window and one shift after the other."""
    n, width = lip.shape
    table = np.zeros((2 * V + 1, n))
    for i in range(n):
        for j in range(2 * V + 1):
            k = i + j - V
            other = sound[k] if 0 <= k < len(sound) else np.zeros(width)
            table[j, i] = np.sqrt(np.sum((lip[i] - other + 1e-6) ** 2))
    means = table.mean(axis=1)
    best = int(np.argmin(means))
    median = sorted(means)[V]  # the 16th of 31
    smooth = medfilt(median - table[best], 9)
    return means, V - best, float(means[best]), float(median - means[best]), smooth


def _walk(n: int, seed: int, width: int = 1024) -> torch.Tensor:
    """A random walk with the steps of an embedding that follows speech."""
    rng = np.random.default_rng(seed)
    walk = np.zeros((n, width))
    walk[0] = rng.normal(0, 0.3, width)
    for i in range(1, n):
        walk[i] = 0.8 * walk[i - 1] + rng.normal(0, 0.18, width)
    return torch.from_numpy(walk.astype(np.float32))


@pytest.mark.parametrize(("n", "seed"), [(20, 0), (45, 1), (145, 2)])
def test_parity_equals_the_plain_loops(n: int, seed: int) -> None:
    lip, sound = _walk(n, seed), _walk(n, seed + 100)
    got = sync_measures(lip, sound)
    means, offset, minimum, confidence, per_window = _plain(lip.numpy(), sound.numpy())
    np.testing.assert_allclose(got.distances, means, atol=1e-5)
    assert got.offset == offset
    assert got.min_distance == pytest.approx(minimum, abs=1e-5)
    assert got.confidence == pytest.approx(confidence, abs=1e-5)
    np.testing.assert_allclose(got.per_window, per_window, atol=1e-5)


def test_distances_are_those_of_torch_pairwise_distance() -> None:
    lip, sound = _walk(30, 0).double(), _walk(30, 1).double()
    table = sync_distances(lip, sound)
    expected = torch.pairwise_distance(lip[3:], sound[:-3])  # the sound 3 windows earlier
    np.testing.assert_allclose(table[V - 3, 3:], expected.numpy(), atol=1e-12)
    beyond = torch.pairwise_distance(lip[:3], torch.zeros(3, 1024, dtype=torch.float64))
    np.testing.assert_allclose(table[V - 3, :3], beyond.numpy(), atol=1e-12)


@pytest.mark.parametrize("mode", ["parity", "masked"])
@pytest.mark.parametrize("frames", [-15, -6, -1, 0, 1, 3, 15])
def test_sound_that_leads_by_k_frames_has_offset_plus_k(frames: int, mode: str) -> None:
    both = _walk(180, 5)
    lip = both[20:165]
    sound = both[20 + frames : 165 + frames]  # what the lips do at i, the sound says at i - frames
    assert sync_measures(lip, sound, mode=mode).offset == frames  # type: ignore[arg-type]


def _perfect(n: int, mode: str) -> SyncMeasures:
    rng = np.random.default_rng(3)
    rows = torch.from_numpy(rng.normal(0, 0.25, (n, 1024)))
    return sync_measures(rows, rows, mode=mode)  # type: ignore[arg-type]


def test_zero_padding_makes_parity_depend_on_length_and_masked_not() -> None:
    parity = [_perfect(n, "parity").confidence for n in (20, 500)]
    masked = [_perfect(n, "masked").confidence for n in (20, 500)]
    # Independent rows of deviation s: real pairs are s sqrt(2 * 1024) apart, zeros s sqrt(1024).
    apart = 0.25 * np.sqrt(2 * 1024)
    assert parity[1] - parity[0] > 1.0
    assert masked == pytest.approx([apart, apart], rel=0.01)


def test_masked_mode_averages_real_pairs_only() -> None:
    lip, sound = _walk(25, 0), _walk(22, 1)
    mask = np.ones(25, np.bool_)
    mask[[0, 7, 8, 24]] = False
    got = sync_measures(lip, sound, mask=mask, mode="masked")
    expected = []
    for j in range(31):
        pairs = [
            np.linalg.norm(lip[i].numpy() - sound[i + j - V].numpy() + 1e-6)
            for i in range(25)
            if mask[i] and 0 <= i + j - V < 22
        ]
        expected.append(np.mean(pairs))
    np.testing.assert_allclose(got.distances, expected, atol=1e-5)
    assert got.min_distance == pytest.approx(min(expected), abs=1e-5)
    assert got.confidence == pytest.approx(sorted(expected)[15] - min(expected), abs=1e-5)
    assert np.isnan(got.per_window[~mask]).all()


def test_masked_windows_take_no_part_in_parity_mode_either() -> None:
    lip, sound = _walk(40, 0), _walk(40, 1)
    mask = np.ones(40, np.bool_)
    mask[10:20] = False
    spoiled = lip.clone()
    spoiled[10:20] = 1e6
    a = sync_measures(lip, sound, mask=mask)
    b = sync_measures(spoiled, sound, mask=mask)
    np.testing.assert_array_equal(a.distances, b.distances)
    np.testing.assert_array_equal(np.isnan(a.per_window), ~mask)
    np.testing.assert_allclose(
        a.distances, sync_distances(lip, sound)[:, mask].mean(axis=1), atol=1e-12
    )


def test_shifts_without_a_pair_are_left_out() -> None:
    got = sync_measures(_walk(5, 0), _walk(5, 0), mode="masked")
    assert np.isfinite(got.distances).sum() == 9  # shifts of -4..4
    assert got.offset == 0
    finite = np.sort(got.distances[np.isfinite(got.distances)])
    assert got.confidence == pytest.approx(finite[4] - finite[0])


def test_no_pair_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no pair"):
        sync_measures(_walk(20, 0), _walk(20, 1), mask=np.zeros(20, np.bool_))


@pytest.mark.parametrize(
    ("confidence", "score"),
    [(5.0, 2.5), (10.0, 5 / (1 + np.exp(-5))), (0.0, 5 / (1 + np.exp(5)))],
)
def test_score_is_the_logistic_of_the_specification(confidence: float, score: float) -> None:
    assert sync_score(confidence) == pytest.approx(score)


def test_score_is_flat_beyond_0_and_10() -> None:
    assert sync_score(-3.0) == sync_score(0.0)
    assert sync_score(25.0) == sync_score(10.0)
