"""What the cluster has -> how many workers, with which CPUs and GPUs. One pure function."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from model.config import Config
from pipelines.errors import UserInputError

GIB = 1024**3


class ResourcesConfig(Config):
    """How much of the cluster a run takes."""

    layout: Literal["auto", "whole", "split"] = Field(
        "auto",
        description="whole: one process decodes and encodes a video; split: CPU processes decode "
        "ahead of encoders; auto: split where there are GPUs",
    )
    workers: int | None = Field(None, ge=1, description="encoding workers; default: what fits")
    gpu_share: float = Field(
        1.0,
        description="GPU share of a worker: 1, 0.5 or 0.25 (others can hang); bookkeeping, not "
        "memory isolation",
    )
    preparers: int | None = Field(
        None,
        ge=1,
        le=32,
        description="CPU processes ahead of each split worker; default: what fits, up to 8",
    )
    worker_gib: float = Field(3.0, gt=0, description="memory that a whole-layout worker may need")
    headroom_cpus: float = Field(
        1.0,
        ge=0,
        description="CPUs left free on clusters with more than 8 of them",
    )

    autoscale: Literal["off", "cpu", "gpu"] = Field(
        "off",
        description="count on nodes that the cluster's autoscaler will add: plan for `workers` of "
        "this kind although the cluster may be empty now",
    )

    @field_validator("gpu_share")
    @classmethod
    def _safe_share(cls, value: float) -> float:
        if value not in (1.0, 0.5, 0.25):
            raise ValueError("gpu_share must be 1, 0.5 or 0.25")
        return value

    @model_validator(mode="after")
    def _workers_to_scale_to(self) -> "ResourcesConfig":
        if self.autoscale != "off" and self.workers is None:
            raise ValueError("autoscale needs `workers`: how many to ask the autoscaler for")
        return self


@dataclass(frozen=True, slots=True)
class Cluster:
    """Totals over all live nodes."""

    cpus: float
    gpus: float
    memory: int  # bytes
    largest: float = float("inf")  # CPUs of the largest node: no worker can have more
    nodes: tuple[tuple[float, float], ...] = ()  # CPUs and GPUs of each node, where known

    def each_node(self) -> tuple[tuple[float, float], ...]:
        """Return (CPUs, GPUs) of each node; everything on one where they are not known."""
        return self.nodes or ((min(self.cpus, self.largest), self.gpus),)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the stages go.

    ``actor_options`` are the arguments for Ray of one worker; ``preparer_options`` those of the
    CPU processes that belong to it under the split layout.
    """

    layout: Literal["whole", "split"]
    workers: int
    preparers: int  # for each worker; 0 in the whole layout
    threads: int  # compute threads of one worker
    device: Literal["cpu", "cuda"]
    actor_options: dict[str, object]
    preparer_options: dict[str, object]


class ResourceError(UserInputError):
    """The cluster cannot run what was asked for."""


def plan(cluster: Cluster, config: ResourcesConfig) -> Plan:
    """Lay workers out on the cluster.

    Without GPUs every worker computes on whole CPUs, one thread each where memory allows: several
    single-threaded processes use the cores better than one process with many threads, because
    decoding and tracking do not run in parallel within a video. With GPUs each worker is pinned to
    its share of one GPU and fed by CPU processes. With ``autoscale`` the workers are asked for
    whether or not there is room: that demand is what makes an autoscaler add nodes.

    Raises:
        ResourceError: The cluster has no CPU, or less than what was asked for.
    """
    if config.autoscale != "off":
        return _ahead_of_nodes(config)
    if cluster.cpus < 1:
        raise ResourceError(f"the cluster offers {cluster.cpus:g} CPUs; at least one is needed")
    layout = config.layout
    if layout == "auto":
        layout = "split" if cluster.gpus >= config.gpu_share else "whole"
    if layout == "whole":
        return _whole(cluster, config)
    return _split(cluster, config)


def _whole(cluster: Cluster, config: ResourcesConfig) -> Plan:
    cpus = int(cluster.cpus - (config.headroom_cpus if cluster.cpus > 8 else 0))
    fits = max(1, int(cluster.memory // int(config.worker_gib * GIB)))
    workers = config.workers or max(1, min(cpus, fits))
    threads = max(1, int(min(cpus // workers, cluster.largest)))
    # More workers than CPUs is allowed (they share): the reservation shrinks to a fraction.
    reserved: float = threads if workers <= cpus else max(0.01, int(100 * cpus / workers) / 100)
    return Plan(
        layout="whole",
        workers=workers,
        preparers=0,
        threads=threads,
        device="cpu",
        actor_options=_options(reserved, 0, threads),
        preparer_options={},
    )


def _ahead_of_nodes(config: ResourcesConfig) -> Plan:
    assert config.workers is not None  # validated with the settings
    gpu = config.autoscale == "gpu"
    preparers = (config.preparers or 4) if gpu else 0
    return Plan(
        layout="split" if gpu else "whole",
        workers=config.workers,
        preparers=preparers,
        threads=1,
        device="cuda" if gpu else "cpu",
        actor_options=_options(1, config.gpu_share if gpu else 0, 1),
        preparer_options=_options(1, 0, 1) if gpu else {},
    )


def _split(cluster: Cluster, config: ResourcesConfig) -> Plan:
    has_gpu = cluster.gpus >= config.gpu_share
    most = int(cluster.gpus / config.gpu_share) if has_gpu else max(1, int(cluster.cpus) // 2)
    workers = config.workers or most
    if has_gpu and workers > most:
        raise ResourceError(
            f"{workers} workers with {config.gpu_share:g} GPU each were asked for; "
            f"the cluster's {cluster.gpus:g} GPUs hold {most}"
        )
    left = cluster.cpus - workers * 1.0 - (config.headroom_cpus if cluster.cpus > 8 else 0)
    preparers = config.preparers or max(1, min(8, int(left // workers)))
    # Where CPUs are short the reservations shrink, or the last processes would wait for ever.
    total = workers * (1 + preparers)
    each = 1.0 if total <= cluster.cpus else max(0.01, int(100 * cluster.cpus / total) / 100)
    return Plan(
        layout="split",
        workers=workers,
        preparers=preparers,
        threads=1,
        device="cuda" if has_gpu else "cpu",
        actor_options=_options(each, config.gpu_share if has_gpu else 0, 1),
        preparer_options=_options(each, 0, 1),
    )


def _options(cpus: float, gpus: float, threads: int) -> dict[str, object]:
    env = {
        # Ray would derive the thread count from the reservation; a fraction would mean one thread
        # always.
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    if gpus == 0:
        # num_gpus=0 leaves CUDA_VISIBLE_DEVICES alone: without this every CPU worker would see all
        # GPUs.
        env["CUDA_VISIBLE_DEVICES"] = ""
    return {
        "num_cpus": cpus,
        "num_gpus": gpus,
        "max_restarts": 0,  # the pool replaces workers itself: endless restarts make poison loops
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
        "runtime_env": {"env_vars": env},
    }


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """Where the workers of a training run go.

    ``resources`` are those of one worker as Ray Train takes them; ``threads`` its compute threads.
    """

    workers: int
    use_gpu: bool
    resources: dict[str, float]
    threads: int


def plan_training(cluster: Cluster, workers: int | None) -> TrainPlan:
    """Lay training out: a GPU for each worker where there are GPUs, else the CPUs shared out.

    The CPUs of a worker are the most that all workers find on the nodes as they are: a group that
    fits in the totals alone would be waited for without end.

    Args:
        cluster: What there is.
        workers: How many; default 1.

    Raises:
        ResourceError: The nodes do not hold so many workers.
    """
    count = workers or 1
    if cluster.cpus < 1:
        raise ResourceError(f"the cluster offers {cluster.cpus:g} CPUs; at least one is needed")
    use_gpu = cluster.gpus >= 1
    most = 8 if use_gpu else int(max(cpus for cpus, _ in cluster.each_node()))
    for cpus in (*map(float, range(most, 0, -1)), *_SHARES):
        if _places(cluster, cpus, use_gpu) >= count:
            resources = {"CPU": cpus} | ({"GPU": 1.0} if use_gpu else {})
            return TrainPlan(count, use_gpu, resources, max(1, int(cpus)))
    what = "GPUs" if use_gpu else "CPUs"
    raise ResourceError(
        f"{count} workers were asked for; the cluster has {what} for "
        f"{_places(cluster, _SHARES[-1], use_gpu)}. Nodes that an autoscaler could add are not "
        "waited for: start them first, or ask for fewer workers"
    )


_SHARES = (0.5, 0.25, 0.1, 0.05, 0.01)  # of a CPU, when workers have to share


def _places(cluster: Cluster, cpus: float, use_gpu: bool) -> int:
    """Count the workers with so many CPUs (and a GPU) that fit on the nodes."""
    fits = 0
    for have, gpus in cluster.each_node():
        room = int(have / cpus + 1e-9)
        fits += min(room, int(gpus)) if use_gpu else room
    return fits
