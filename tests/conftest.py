"""Fixtures for all tests."""

import os
from collections.abc import Iterator

import pytest

from actors.encode import Encoder
from tests.support import ROOT

# Ray starts its workers at niceness 15: what else the machine does, the other test process above
# all, would starve them for seconds, and a video that is worked on would look like one that hangs.
os.environ.setdefault("RAY_worker_niceness", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files with slow tests go first: two processes then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    slow |= {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster of two CPUs for the whole session."""
    import ray

    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=256 * 1024**2,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def seeded_encoder() -> Encoder:
    """All extractors with seeded weights, as a run on one thread of a CPU has them."""
    import torch

    from actors.encode import backbone_stages, cpu_stages
    from tests.talking import seeded_settings

    config = seeded_settings()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    encoder = Encoder(backbone_stages(config, "cpu", 1) + cpu_stages(config))
    torch.set_num_threads(before)
    return encoder
