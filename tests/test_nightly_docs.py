"""Examples of docs/nightly.md and docs/nightly-rayjob.yaml: commands, units, YAML, Python."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from jobs import score, select
from pipelines.config import load_config
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.exported import COUNTERS, GAUGES
from pipelines.scoring.gate import check_gate
from pipelines.scoring.gate_config import load_gate
from pipelines.selection import select as selected
from tests.pipelines.scoring.score_tables import corpus, write_output
from tests.support import ROOT

Yaml = dict[str, Any]
PAGE = (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8")
BLOCKS = [(m[1], m[2]) for m in re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)]
UNITS = dict(
    re.findall(r"^`/etc/systemd/system/(\S+)`[^\n]*\n\n```ini\n(.*?)^```$", PAGE, re.M | re.S)
)
CRON = re.compile(r"^(?:[\d*,/-]+ ){5}\S")


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def objects() -> list[Yaml]:
    return list(yaml.safe_load_all((ROOT / "docs" / "nightly-rayjob.yaml").read_text("utf-8")))


def of_kind(kind: str) -> Yaml:
    (found,) = [item for item in objects() if item["kind"] == kind]
    return found


def ray_job() -> Yaml:
    found: Yaml = yaml.safe_load(of_kind("ConfigMap")["data"]["rayjob.yaml"])
    return found


def shell_lines() -> list[str]:
    """Every shell command of the page, of cron and of the unit, one a line."""
    lines = [line for text in blocks("sh") for line in text.replace("\\\n", " ").splitlines()]
    lines += [line.split(maxsplit=5)[5] for line in cron_lines()]
    lines += [service("talkmos-nightly.service")["Service"]["ExecStart"]]
    return [*lines, ray_job()["spec"]["entrypoint"]]


def cron_lines() -> list[str]:
    return [line for text in blocks("crontab") for line in text.splitlines() if CRON.match(line)]


def service(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNITS[name])
    return parser


def arguments(door: str) -> list[list[str]]:
    """The arguments of every call of a door."""
    found = []
    for line in shell_lines():
        words = shlex.split(line, comments=True)
        at = [i for i, word in enumerate(words) if word.endswith(f"jobs/{door}")]
        if at:
            rest = words[at[0] + 1 :]
            end = next((i for i, word in enumerate(rest) if re.match(r"[0-9]?[<>|&]", word)), None)
            found.append(rest[:end])
    return found


def test_every_scoring_command_is_understood() -> None:
    calls = arguments("score.py")
    assert len(calls) == 5  # the first, cron, systemd, ray job submit, RayJob
    for call in calls:
        args = score.parser().parse_args(call)
        config = load_config(ScoreConfig, args.config, score.overrides(args))
        assert config.run.wait_lock, call  # two nights must not stop each other
        assert config.corpus.pattern == "{generator}/{speaker}.mp4", call
        assert config.corpus.corpus
        assert config.checkpoint
        assert args.out
        gate = str(args.gate).removeprefix("/opt/talkmos/")
        check_gate(load_gate(str(ROOT / gate)), with_baseline=bool(args.baseline))
        assert args.baseline != args.out


def test_every_selection_is_understood(tmp_path: Path) -> None:
    write_output(tmp_path, *corpus({"dubbing-v7": 3.0}, prompts=2))
    calls = arguments("select.py")
    assert len(calls) == 4
    for call in calls:
        args = select.parser().parse_args(call)
        assert args.columns_list or args.where
        if args.where:
            selected(
                str(tmp_path),
                args.where,
                kind="clips" if args.clips else "videos",
                columns=args.columns,
                order_by=args.order_by,
                limit=args.limit,
            )


def test_every_way_of_writing_since_is_understood() -> None:
    (sentence,) = re.findall(r"^`--since 24h` \(or (.*?); without", PAGE, re.M)
    found = re.findall(r"`([^`]+)`", sentence)
    assert len(found) >= 5
    for text in [*found, *re.findall(r"`--since ([^`]+)`", PAGE)]:
        call = ["--corpus", "x", "--checkpoint", "y", "--since", text]
        args = score.parser().parse_args(call)
        assert load_config(ScoreConfig, None, score.overrides(args)).corpus.since == text


def test_shell_lines_are_shell() -> None:
    script = of_kind("ConfigMap")["data"]["start.sh"]
    for shell, text in [*(("bash", text) for text in shell_lines()), ("sh", script)]:
        done = subprocess.run([shell, "-n", "-c", text], check=False, capture_output=True)
        assert done.returncode == 0, (text, done.stderr)


def test_the_cron_line() -> None:
    (line,) = cron_lines()
    minute, hour, *days, command = line.split(maxsplit=5)
    assert 0 <= int(minute) < 60
    assert 0 <= int(hour) < 24
    assert days == ["*", "*", "*"]
    assert not re.search(r"(?<!\\)%", command)  # cron ends the command there
    assert ">>" in command
    assert "2>" not in command  # what is left on standard error is what cron sends to MAILTO
    table = blocks("crontab")[0].splitlines()
    others = [entry for entry in table if entry != line]
    assert all(re.fullmatch(r"[A-Z_]+=\S+", entry) for entry in others)


def test_the_units_say_what_the_page_says() -> None:
    unit, timer = service("talkmos-nightly.service"), service("talkmos-nightly.timer")
    assert unit["Service"]["RestartForceExitStatus"] == "3"  # and not 1 or 2
    assert unit["Unit"]["OnFailure"] == "talkmos-alert@%n.service"
    assert "talkmos-alert@.service" in UNITS
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Timer"]["OnCalendar"].endswith("UTC")
    assert len(UNITS) == 3


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is absent")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    python = tmp_path / "talkmos" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    places = {"/opt/talkmos": str(tmp_path / "talkmos"), "/usr/bin/logger": sys.executable}

    def verified(name: str, text: str) -> tuple[int, str]:
        for old, new in places.items():
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    for name, text in UNITS.items():
        status, told = verified(name.replace("@.", "@some."), text)
        assert (status, told) == (0, ""), name
    spoiled = UNITS["talkmos-nightly.service"].replace("Type=exec", "Type=oneshot")
    assert verified("spoiled.service", spoiled)[0] != 0  # it would notice
    calendar = service("talkmos-nightly.timer")["Timer"]["OnCalendar"]
    subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True)


# Of apis/ray/v1/rayjob_types.go of KubeRay 1.5 and of batch/v1 of Kubernetes.
RAY_JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy"),
    *("entrypoint", "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId"),
    *("managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes"),
    *("submissionMode", "submitterConfig", "submitterPodTemplate", "suspend"),
    "ttlSecondsAfterFinished",
}
CRON_JOB = {
    *("schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds", "suspend"),
    *("jobTemplate", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"),
}
JOB = {
    *("backoffLimit", "activeDeadlineSeconds", "template", "ttlSecondsAfterFinished"),
    *("completions", "parallelism"),
}


def test_the_ray_job_fits_the_cluster_of_kuberay_yaml() -> None:
    others = list(yaml.safe_load_all((ROOT / "docs" / "kuberay.yaml").read_text("utf-8")))
    (cluster,) = [item for item in others if item["kind"] == "RayCluster"]
    (extraction,) = [item for item in others if item["kind"] == "RayJob"]
    job = ray_job()
    assert (job["apiVersion"], job["kind"]) == (extraction["apiVersion"], "RayJob")
    assert set(job["spec"]) <= RAY_JOB
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    # KubeRay refuses or ignores these beside a cluster selector.
    without = {"backoffLimit", "suspend", "shutdownAfterJobFinishes", "rayClusterSpec"}
    assert not without & set(job["spec"])
    assert isinstance(yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"], dict)
    assert "\n" not in job["spec"]["entrypoint"].strip()
    assert "/opt/talkmos/jobs/score.py" in job["spec"]["entrypoint"]


def test_the_cron_job_starts_it_with_the_rights_it_needs() -> None:
    kinds = [item["kind"] for item in objects()]
    assert kinds == ["ConfigMap", "ServiceAccount", "Role", "RoleBinding", "CronJob"]
    spec = of_kind("CronJob")["spec"]
    assert of_kind("CronJob")["apiVersion"] == "batch/v1"
    assert set(spec) <= CRON_JOB
    assert CRON.match(spec["schedule"] + " x")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert set(spec["jobTemplate"]["spec"]) <= JOB
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert volume == {"name": mount["name"], "configMap": {"name": "talkmos-nightly"}}
    files = of_kind("ConfigMap")["data"]
    assert container["command"] == ["sh", f"{mount['mountPath']}/start.sh"]
    account = of_kind("ServiceAccount")["metadata"]["name"]
    assert pod["serviceAccountName"] == account
    binding = of_kind("RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert binding["roleRef"]["name"] == of_kind("Role")["metadata"]["name"]
    # Exactly the verbs that its script uses.
    (rule,) = of_kind("Role")["rules"]
    used = set(re.findall(r"kubectl (get|create|delete|apply|patch|list)\b", files["start.sh"]))
    assert (rule["apiGroups"], rule["resources"]) == (["ray.io"], ["rayjobs"])
    assert set(rule["verbs"]) == used
    assert f"{mount['mountPath']}/rayjob.yaml" in files["start.sh"]
    assert ray_job()["metadata"]["name"] in files["start.sh"]


@pytest.mark.parametrize(
    ("state", "status", "makes"),
    [("", 0, True), ("Complete", 0, True), ("Failed", 0, True), ("Running", 1, False)],
)
def test_the_script_leaves_a_run_alone_that_is_still_at_work(
    tmp_path: Path, state: str, status: int, makes: bool
) -> None:
    calls = tmp_path / "calls"
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\necho "$@" >>{calls}\ncase "$1" in get) printf %s "{state}" ;; esac\n'
    )
    kubectl.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", of_kind("ConfigMap")["data"]["start.sh"]],
        check=False,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    verbs = [line.split()[0] for line in calls.read_text().splitlines()]
    assert verbs == (["get", "delete", "create"] if makes else ["get"])
    assert ("still at work" in done.stdout) is not makes


def test_the_rules_of_prometheus_know_our_metrics() -> None:
    (text,) = blocks("yaml")
    (group,) = yaml.safe_load(text)["groups"]
    ours = {f"ray_{name}" for name in COUNTERS | GAUGES}
    assert group["rules"]
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["summary"]
        used = set(re.findall(r"\b(?:ray|kuberay)_\w+", rule["expr"]))
        assert used
        assert {name for name in used if name.startswith("ray_")} <= ours
        for opening, closing in ("()", "[]", "{}"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing)
        # The exporter forgets gauges soon: a rule that looks at this very moment never fires.
        for name in used & {f"ray_{gauge}" for gauge in GAUGES}:
            instant = re.sub(rf"{name}(\{{[^}}]*\}})?\[\w+\]", "", rule["expr"])
            assert name not in instant, rule["alert"]
    described = set(re.findall(r"^\| `(ray_\w+)`(?:, `(ray_\w+)`)?", PAGE, re.M))
    assert {name for pair in described for name in pair if name} == ours


def test_the_python_of_the_page_reads_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, clips = corpus({"good": 4.5, "bad": 1.4}, prompts=3)
    write_output(tmp_path / "OUT", videos, clips)
    seen: Yaml = {}
    for text in blocks("python"):
        exec(text.replace("OUT/", f"{tmp_path}/OUT/"), seen)
    assert len(seen["videos"]) == len(videos) == 6
    assert seen["videos"]["run_date"].nunique() == 1
    expected = clips.to_pandas()
    assert seen["bad"].num_rows == (expected["overall"] < 2).sum() > 0
    told = capsys.readouterr().out
    assert told.index("good") < told.rindex("bad")
    assert isinstance(seen["pd"].DataFrame(), pd.DataFrame)


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is absent")
def test_the_questions_to_the_summary_have_answers(tmp_path: Path) -> None:
    from pipelines.report.scoring_text import summary_json
    from pipelines.scoring.facts import ReportFacts
    from pipelines.scoring.leaderboard import LeaderboardConfig, leaderboard

    videos, clips = corpus({"good": 4.5, "bad": 1.4}, prompts=3)
    board = leaderboard(videos, LeaderboardConfig()).to_json()
    gate = {"passed": True, "verdicts": []}
    facts = ReportFacts(videos, clips, [], {"corpus": 6}, board, None, gate, [], {"level": 0.9})
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps(summary_json(facts)))
    asked = [line for line in shell_lines() if line.startswith("jq ")]
    answers = []
    for line in asked:
        command = line.replace("/data/scores/report/summary.json", str(summary))
        done = subprocess.run(shlex.split(command), check=True, capture_output=True, text=True)
        answers.append(done.stdout.split())
    names, means = answers[0][::2], [float(mean) for mean in answers[0][1::2]]
    assert sorted(names) == ["bad", "good"]
    assert max(means) > 4
    assert min(means) < 2
    assert answers[1] == ["true"]


def test_links_and_statuses() -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    rows = re.findall(r"^\| (\d+) \| ", PAGE, re.M)
    assert rows == ["0", "1", "2", "3", "130"]
    epilog = str(score.parser().epilog)
    assert all(re.search(rf"\b{row}\b", epilog) for row in rows)
