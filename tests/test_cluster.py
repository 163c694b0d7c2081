"""cluster.yaml against Ray's own schema and preparation, docs/kuberay.yaml against its shape."""

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.support import ROOT

Yaml = dict[str, Any]
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|aws_(secret|access)_?key|PRIVATE KEY|password", re.IGNORECASE
)


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.fixture
def cluster() -> Yaml:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def kube() -> dict[str, Yaml]:
    documents = yaml.safe_load_all((ROOT / "docs" / "kuberay.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def workers(cluster: Yaml) -> Yaml:
    types = cluster["available_node_types"]
    return {name: node for name, node in types.items() if name != cluster["head_node_type"]}


def test_the_schema_of_ray_accepts_it(cluster: Yaml) -> None:
    jsonschema.validate(cluster, SCHEMA)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.update(worker_nodes={}),
        lambda c: c["available_node_types"]["gpu"].pop("resources"),
        lambda c: c["available_node_types"]["gpu"]["resources"].update(GPU=0.5),
    ],
)
def test_the_schema_of_ray_would_notice(cluster: Yaml, spoil: Any) -> None:
    spoil(cluster)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, SCHEMA)


def test_ray_prepares_it_and_finds_nothing_missing(cluster: Yaml) -> None:
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    # Nothing of Ray's defaults (another machine image, another Python) has slipped in.
    assert set(prepared["available_node_types"]) == set(cluster["available_node_types"])
    assert prepared["setup_commands"] == cluster["setup_commands"]
    assert not prepared["docker"]


def test_the_head_does_no_work(cluster: Yaml) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    start = cluster["head_start_ray_commands"][-1]
    assert "--num-cpus=0" in start
    assert "--num-gpus=0" in start
    assert "--autoscaling-config=" in start


def test_cpu_and_gpu_workers_scale_within_their_limits(cluster: Yaml) -> None:
    types = workers(cluster)
    gpus = {name: node["resources"].get("GPU", 0) for name, node in types.items()}
    assert sorted(gpus.values()) == [0, 1]
    for node in types.values():
        assert node["resources"]["CPU"] >= 1
        assert 0 <= node["min_workers"] <= node["max_workers"]
    assert cluster["max_workers"] == sum(node["max_workers"] for node in types.values())
    assert cluster["idle_timeout_minutes"] > 0


def test_nodes_get_their_rights_from_roles(cluster: Yaml) -> None:
    for node in cluster["available_node_types"].values():
        assert set(node["node_config"]["IamInstanceProfile"]) == {"Name"}
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    head = cluster["available_node_types"]["head"]["node_config"]["IamInstanceProfile"]
    for node in workers(cluster).values():
        assert node["node_config"]["IamInstanceProfile"] != head
    assert "ssh_private_key" not in cluster["auth"]


@pytest.mark.parametrize("path", ["cluster.yaml", "docs/kuberay.yaml"])
def test_no_secret_stands_in_the_file(path: str) -> None:
    assert not SECRET.search((ROOT / path).read_text(encoding="utf-8"))


def test_every_node_installs_the_pinned_set_and_asks_for_the_token(cluster: Yaml) -> None:
    installs = [line for line in cluster["setup_commands"] if "pip install" in line]
    assert len(installs) == 1
    assert "--no-deps -r ~/talkmos/requirements.txt" in installs[0]
    mounts = cluster["file_mounts"]
    assert mounts["/home/ubuntu/talkmos/requirements.txt"] == "requirements.txt"
    assert mounts["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("RAY_AUTH_MODE=token" in line for line in cluster["initialization_commands"])
    # boto3 declares the botocore release that it goes with; the pinned one must satisfy it.
    assert f"boto3=={pins()['botocore']}" in cluster["head_setup_commands"][0]


def test_the_launcher_does_not_bind_every_actor_to_one_thread(cluster: Yaml) -> None:
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [line for line in cluster[commands] if "ray start" in line]
        assert starts
        assert all(line.startswith("unset OMP_NUM_THREADS;") for line in starts)


def test_every_command_is_valid_shell(cluster: Yaml) -> None:
    for key, commands in cluster.items():
        if key.endswith("commands"):
            for line in commands:
                done = subprocess.run(["bash", "-n", "-c", line], check=False, capture_output=True)
                assert done.returncode == 0, (key, line, done.stderr)


def test_kuberay_has_the_same_cluster(cluster: Yaml, kube: dict[str, Yaml]) -> None:
    assert set(kube) == {"ServiceAccount", "RayCluster", "RayJob"}
    spec = kube["RayCluster"]["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == set(workers(cluster))
    for name, node in workers(cluster).items():
        group = groups[name]
        assert (group["minReplicas"], group["maxReplicas"]) == (
            node["min_workers"],
            node["max_workers"],
        )
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits.get("nvidia.com/gpu", 0) == node["resources"].get("GPU", 0)


def test_kuberay_names_fit_together(kube: dict[str, Yaml]) -> None:
    account = kube["ServiceAccount"]["metadata"]["name"]
    assert "eks.amazonaws.com/role-arn" in kube["ServiceAccount"]["metadata"]["annotations"]
    spec = kube["RayCluster"]["spec"]
    templates = [g["template"]["spec"] for g in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]]
    images = set()
    for template in templates:
        assert template["serviceAccountName"] == account
        (container,) = template["containers"]
        images.add(container["image"])
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in template.get("volumes", [])}
    assert len(images) == 1
    assert spec["rayVersion"] == pins()["ray"]
    job = kube["RayJob"]["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": kube["RayCluster"]["metadata"]["name"]}
    # KubeRay refuses or ignores these beside a cluster selector.
    assert not {"backoffLimit", "suspend", "shutdownAfterJobFinishes", "rayClusterSpec"} & set(job)
    assert isinstance(yaml.safe_load(job["runtimeEnvYAML"]), dict)
    assert "jobs/extract.py" in job["entrypoint"]
