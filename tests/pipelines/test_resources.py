"""The resource plan: placement on GPUs is shown by the arguments given to the engine."""

import pytest

from pipelines.resources import (
    GIB,
    Cluster,
    ResourceError,
    ResourcesConfig,
    TrainPlan,
    plan,
    plan_training,
)


def test_a_laptop_gets_one_single_threaded_worker_for_each_core() -> None:
    p = plan(Cluster(2, 0, 20 * GIB), ResourcesConfig())
    assert (p.layout, p.workers, p.threads, p.device) == ("whole", 2, 1, "cpu")
    assert p.actor_options["num_cpus"] == 1
    assert p.actor_options["num_gpus"] == 0


def test_memory_limits_workers_and_threads_fill_the_cores() -> None:
    p = plan(Cluster(16, 0, 13 * GIB), ResourcesConfig())
    assert p.workers == 4
    assert p.threads == 3  # 15 CPUs after headroom
    assert p.workers * p.actor_options["num_cpus"] <= 15  # type: ignore[operator]


def test_cpu_workers_cannot_see_gpus() -> None:
    p = plan(Cluster(16, 4, 100 * GIB), ResourcesConfig())
    env = p.preparer_options["runtime_env"]["env_vars"]  # type: ignore[index]
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    env = p.actor_options["runtime_env"]["env_vars"]  # type: ignore[index]
    assert "CUDA_VISIBLE_DEVICES" not in env


@pytest.mark.parametrize(
    ("gpus", "share", "workers"), [(1, 1.0, 1), (8, 1.0, 8), (2, 0.5, 4), (1, 0.25, 4)]
)
def test_each_encoder_is_pinned_to_its_share_of_a_gpu(
    gpus: int, share: float, workers: int
) -> None:
    p = plan(Cluster(96, gpus, 700 * GIB), ResourcesConfig(gpu_share=share))  # type: ignore[arg-type]
    assert (p.layout, p.workers, p.device) == ("split", workers, "cuda")
    assert p.actor_options["num_gpus"] == share
    assert p.preparer_options["num_gpus"] == 0
    assert p.preparers >= 1


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 8, 9, 16, 64, 192])
@pytest.mark.parametrize("gpus", [0, 1, 2, 8])
@pytest.mark.parametrize("layout", ["auto", "whole", "split"])
def test_reservations_never_exceed_the_cluster(cpus: int, gpus: int, layout: str) -> None:
    p = plan(Cluster(cpus, gpus, 256 * GIB), ResourcesConfig(layout=layout))  # type: ignore[arg-type]
    cpu = p.workers * p.actor_options["num_cpus"]  # type: ignore[operator]
    cpu += p.workers * p.preparers * p.preparer_options.get("num_cpus", 0)  # type: ignore[operator]
    assert cpu <= cpus + 1e-9
    assert p.workers * p.actor_options["num_gpus"] <= gpus  # type: ignore[operator]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_more_workers_than_cpus_share_them(workers: int) -> None:
    p = plan(Cluster(2, 0, 64 * GIB), ResourcesConfig(workers=workers))
    assert p.workers == workers
    assert workers * p.actor_options["num_cpus"] <= 2 + 1e-9  # type: ignore[operator]


def test_actors_are_never_restarted_behind_the_pools_back() -> None:
    p = plan(Cluster(2, 0, 20 * GIB), ResourcesConfig())
    assert p.actor_options["max_restarts"] == 0
    assert p.actor_options["max_task_retries"] == 0


def test_asking_for_more_than_there_is_says_so() -> None:
    with pytest.raises(ResourceError, match="hold 2"):
        plan(Cluster(16, 2, 64 * GIB), ResourcesConfig(workers=3))
    with pytest.raises(ResourceError, match="at least one"):
        plan(Cluster(0, 0, 0), ResourcesConfig())


def test_no_worker_is_larger_than_the_largest_node() -> None:
    p = plan(Cluster(4, 0, 64 * GIB, largest=1), ResourcesConfig(workers=1))
    assert p.actor_options["num_cpus"] == 1


def test_autoscaling_asks_for_workers_that_have_no_room_yet() -> None:
    empty = Cluster(0, 0, 0)
    p = plan(empty, ResourcesConfig(autoscale="gpu", workers=16, gpu_share=0.5))
    assert (p.layout, p.workers, p.device) == ("split", 16, "cuda")
    assert p.actor_options["num_gpus"] == 0.5
    assert p.preparer_options["num_gpus"] == 0
    p = plan(empty, ResourcesConfig(autoscale="cpu", workers=8))
    assert (p.layout, p.workers, p.device) == ("whole", 8, "cpu")
    with pytest.raises(ValueError, match="how many to ask"):
        ResourcesConfig(autoscale="gpu")


# --- training


def training(cpus: float, gpus: float, workers: int | None, **more: float) -> TrainPlan:
    return plan_training(Cluster(cpus, gpus, 64 * GIB, **more), workers)


def test_training_takes_one_worker_and_all_cpus_unless_told_otherwise() -> None:
    assert training(6, 0, None) == TrainPlan(1, False, {"CPU": 6.0}, 6)
    assert training(6, 0, 2) == TrainPlan(2, False, {"CPU": 3.0}, 3)
    assert training(16, 0, 1, largest=4).resources == {"CPU": 4.0}  # no node has more


@pytest.mark.parametrize(("gpus", "workers"), [(1, 1), (4, 2), (8, 8)])
def test_where_there_are_gpus_each_training_worker_has_one(gpus: int, workers: int) -> None:
    p = training(96, gpus, workers)
    assert (p.workers, p.use_gpu, p.resources["GPU"]) == (workers, True, 1.0)
    assert 1 <= p.resources["CPU"] <= 8  # the rest is for reading


@pytest.mark.parametrize("cpus", [1, 2, 3, 7, 8, 64])
@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_training_never_asks_for_more_than_there_is(cpus: int, gpus: int, workers: int) -> None:
    if gpus and workers > gpus:
        with pytest.raises(ResourceError, match=f"{workers} workers .* has GPUs for {gpus}"):
            training(cpus, gpus, workers)
        return
    p = training(cpus, gpus, workers)
    assert p.workers * p.resources["CPU"] <= cpus + 1e-9
    assert p.workers * p.resources.get("GPU", 0) <= gpus
    assert p.threads >= 1


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        (((16, 0), (4, 1)), 1, {"CPU": 4.0, "GPU": 1.0}),  # the GPU stands on the small node
        (((2, 0), (16, 0), (16, 0)), 3, {"CPU": 8.0}),  # 11 each would fit in the total only
        (((3, 0), (1, 0)), 2, {"CPU": 1.0}),
        (((8, 4), (8, 4)), 8, {"CPU": 2.0, "GPU": 1.0}),
        (((2, 4),), 4, {"CPU": 0.5, "GPU": 1.0}),
    ],
)
def test_training_fits_on_the_nodes_as_they_are(
    nodes: tuple[tuple[float, float], ...], workers: int, expected: dict[str, float]
) -> None:
    cpus, gpus = (sum(column) for column in zip(*nodes, strict=True))
    largest = max(cpu for cpu, _ in nodes)
    p = plan_training(Cluster(cpus, gpus, 64 * GIB, largest, nodes), workers)
    assert p.resources == expected


def test_training_needs_a_cpu() -> None:
    with pytest.raises(ResourceError, match="at least one"):
        training(0, 0, None)


@pytest.mark.parametrize(("gpus", "backend"), [(2, "nccl"), (0, "gloo")])
def test_what_ray_train_is_given(gpus: int, backend: str) -> None:
    """Placement on GPUs, without any: by the arguments of Ray Train."""
    from pipelines.training.on_ray import COLLECTIVE_SECONDS, WORKER_FAILURES, arguments

    given = arguments(training(8, gpus, 2), "/notes")
    scaling, torch, run = (given[f"{n}_config"] for n in ("scaling", "torch", "run"))
    assert (scaling.num_workers, scaling.use_gpu) == (2, gpus > 0)
    assert scaling.resources_per_worker == {"CPU": 4.0, **({"GPU": 1.0} if gpus else {})}
    assert torch.backend == backend
    assert torch.timeout_s == COLLECTIVE_SECONDS
    assert run.failure_config.max_failures == WORKER_FAILURES > 0
    assert run.storage_path == "/notes"
    # glibc's settings are for processes that compute on CPUs.
    assert ("GLIBC_TUNABLES" in run.worker_runtime_env["env_vars"]) == (gpus == 0)
    assert set(given) == {"scaling_config", "torch_config", "run_config"}
