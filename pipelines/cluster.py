"""Connecting to Ray: a cluster that is there, or a local one of this run's own."""

import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray

from pipelines.messages import RunError
from pipelines.reaper import watch
from pipelines.resources import Cluster, ResourceError

ROOT = Path(__file__).resolve().parents[1]
# What a cluster's workers do not need; the upload through the dashboard is capped at 100 MiB.
EXCLUDES = [".git", ".venv", "demo-output", "docs", "tests", "benchmarks", "**/__pycache__"]
ANSWER_SECONDS = 10.0  # Ray itself waits for minutes
LOCAL_OBJECT_STORE = 512 * 1024**2  # whole-layout workers pass no tensors; split ones a few bundles


@contextmanager
def connected(
    address: str | None, *, local_cpus: int | None = None, object_store: int = LOCAL_OBJECT_STORE
) -> Iterator[Cluster]:
    """Connect to the cluster at ``address`` (or $RAY_ADDRESS), or start one; disconnect at the end.

    Inside ``ray job submit`` the job's own environment is used as it is. A local cluster ends with
    this process, even when the process is killed.

    Args:
        address: The cluster; default $RAY_ADDRESS, else a local one.
        local_cpus: CPUs of a local cluster; default: all.
        object_store: Bytes of a local cluster's object store.

    Raises:
        ResourceError: No cluster answers at ``address``.
        RunError: A local one does not start.
    """
    if ray.is_initialized():  # a caller's cluster: it stays as it is
        yield totals()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    before = psutil.Process().children(recursive=True)
    terminated = signal.getsignal(signal.SIGTERM)
    common = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        env = None if job else {"working_dir": str(ROOT), "excludes": EXCLUDES}
        _check_answers(address)
        try:
            ray.init(address=address, runtime_env=env, **common)
        except (ConnectionError, ValueError) as error:
            raise _no_cluster(address, error) from error
    else:
        path = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), path]))
        try:
            ray.init(
                address="local",  # without it Ray would join whatever cluster it finds here
                num_cpus=local_cpus,
                include_dashboard=False,
                object_store_memory=object_store,
                _temp_dir=_short_temp_dir(),
                **common,
            )
        except Exception as error:  # Ray has no class of its own for this
            ray.shutdown()
            raise RunError(
                f"Ray did not start on this machine: {_first_line(error)}. A machine that is too "
                "busy, or short of memory or of disk space for temporary files, is the usual "
                "cause: try again, or name a cluster with --address"
            ) from error
    in_main = threading.current_thread() is threading.main_thread()
    if callable(terminated) and in_main:  # Ray has put its own in its place, which aborts
        signal.signal(signal.SIGTERM, terminated)
    mine = [p for p in psutil.Process().children(recursive=True) if p not in before]
    reaper = None if address else watch(mine)
    try:
        yield totals()
    finally:
        ray.shutdown()
        if reaper is not None and reaper.stdin is not None:
            reaper.stdin.close()
            reaper.wait()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _check_answers(address: str) -> None:
    """Knock at ``address`` when it names a port.

    Raises:
        ResourceError: Nothing answers.
    """
    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> ResourceError:
    return ResourceError(
        f"no Ray cluster answers at {address} ({error}): start one (ray start --head), or leave "
        "--address and $RAY_ADDRESS out for a local one"
    )


def totals() -> Cluster:
    """Add up what the live nodes offer."""
    have = ray.cluster_resources()
    nodes = tuple(
        (n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0))
        for n in ray.nodes()
        if n["Alive"]
    )
    return Cluster(
        cpus=have.get("CPU", 0.0),
        gpus=have.get("GPU", 0.0),
        memory=int(have.get("memory", 0)),
        largest=max((cpus for cpus, _ in nodes), default=0.0),
        nodes=nodes,
    )


def _short_temp_dir() -> str | None:
    # Ray puts Unix sockets below its folder, and their paths may have 107 bytes only.
    return None if len(tempfile.gettempdir()) < 40 else "/tmp/ray"  # noqa: S108 - Ray's own default
