"""Connecting to Ray where it goes wrong."""

import pytest
import ray

from pipelines.cluster import connected
from pipelines.messages import RunError


def test_a_machine_on_which_ray_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    told = "did not start on this machine: The current node timed out during startup. A machine"
    with pytest.raises(RunError, match=told), connected(None):
        raise AssertionError("it is connected")
