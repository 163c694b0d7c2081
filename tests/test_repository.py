"""What a stranger relies on: packages that fit together, documents that agree, small jobs."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support import ROOT

# Left out on purpose, see the head of requirements.txt.
LEFT_OUT = {"jax", "jaxlib", "opencv-contrib-python", "sentencepiece", "sounddevice"}
# Declared with a bound that is known not to hold.
KNOWN_CONFLICTS = {("mediapipe", "numpy")}
EXTRAS = {"ray": {"data", "default", "train"}}


def read_pins(name: str) -> dict[str, str]:
    pins = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line)
            assert match, f"{name}: not an exact pin of a package by its name: {line}"
            assert canonicalize_name(match[1]) not in pins, f"{name}: twice: {match[1]}"
            pins[canonicalize_name(match[1])] = match[2]
    return pins


@pytest.fixture(scope="module")
def run_pins() -> dict[str, str]:
    return read_pins("requirements.txt")


@pytest.fixture(scope="module")
def dev_pins() -> dict[str, str]:
    return read_pins("requirements-dev.txt")


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_package_is_built() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = ("jobs", "pipelines", "actors", "model")
    found = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for layer in layers
        for path in (ROOT / layer).rglob("__init__.py")
    }
    assert set(tool["setuptools"]["packages"]) == found


def text_files() -> list[Path]:
    """The project's own files; without Git (a source archive) everything that is not ignored."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        skip = {".git", ".venv", "demo-output", "out", "build", "dist"}
        paths = [p for p in ROOT.rglob("*") if not skip & set(p.relative_to(ROOT).parts)]
    kinds = {"", ".cfg", ".ini", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
    return sorted(p for p in paths if p.is_file() and p.suffix in kinds)


def complaints_about(
    pins: dict[str, str], extras: dict[str, set[str]], known: dict[str, str]
) -> list[str]:
    """Hold what the installed ``pins`` need against ``known``: with --no-deps pip does not."""
    found = []
    for name, version in pins.items():
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} is not installed")
            continue
        if distribution.version != version:
            found.append(f"{name} is installed as {distribution.version}, not {version}")
        for text in distribution.requires or []:
            need = Requirement(text)
            target = canonicalize_name(need.name)
            wanted = need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in {"", *extras.get(name, set())}
            )
            if not wanted or target in LEFT_OUT or (name, target) in KNOWN_CONFLICTS:
                continue
            if target not in known:
                found.append(f"{name} needs {target}, which is not pinned")
            elif not need.specifier.contains(known[target], prereleases=True):
                found.append(f"{name} needs {need}, but {known[target]} is pinned")
    return found


def test_the_run_set_is_complete_and_fits_together(run_pins: dict[str, str]) -> None:
    assert complaints_about(run_pins, EXTRAS, run_pins) == []


def test_the_development_set_is_complete_beside_it(
    run_pins: dict[str, str], dev_pins: dict[str, str]
) -> None:
    assert not set(run_pins) & set(dev_pins)
    assert complaints_about(dev_pins, {}, run_pins | dev_pins) == []


def test_a_gap_in_the_set_would_be_noticed(run_pins: dict[str, str]) -> None:
    spoiled = {name: version for name, version in run_pins.items() if name != "attrs"}
    spoiled["urllib3"] = "0.1"
    found = "\n".join(complaints_about(spoiled, EXTRAS, spoiled))
    assert "needs attrs, which is not pinned" in found
    assert "urllib3 is installed as" in found
    assert "but 0.1 is pinned" in found


def test_the_pins_satisfy_what_the_project_declares(
    project: dict[str, object], run_pins: dict[str, str], dev_pins: dict[str, str]
) -> None:
    extras = project["optional-dependencies"]
    everything = run_pins | dev_pins
    for pins, declared in (
        (run_pins, [*project["dependencies"], *extras["demo"]]),
        (everything, [*extras["test"], *extras["dev"]]),
    ):
        for text in declared:
            need = Requirement(text)
            version = pins.get(canonicalize_name(need.name))
            assert version, f"{need.name} is declared but not pinned"
            assert need.specifier.contains(Version(version)), f"{need} against {version}"


def test_nothing_says_where_packages_come_from() -> None:
    option = re.compile(r"(--?(extra-)?index-url|--find-links|--trusted-host|index_url\s*=)")
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "pyproject.toml",
        "Makefile",
        ".ci/setup",
    ):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not option.search(text), name
        assert "://" not in text, name


def test_no_file_names_a_place_on_one_machine() -> None:
    here = {str(ROOT) + "/", str(ROOT.parent / "shared"), str(Path.home() / "."), "/root" + "/"}
    # The users of the machine image and of the container image are no one's home.
    home = re.compile(r"/(home|Users)/(?!ubuntu/|ray/)[a-z][\w.-]*/")
    for path in text_files():
        text = path.read_text(encoding="utf-8")
        found = [place for place in here if len(Path(place).parts) > 2 and place in text]
        assert not found, f"{path.relative_to(ROOT)}: {found}"
        assert not home.search(text), f"{path.relative_to(ROOT)}: a home folder"


def test_version_and_changelog_agree(project: dict[str, object]) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", changelog, re.MULTILINE)
    assert versions[0] == project["version"]
    assert versions == sorted(versions, key=Version, reverse=True)


def test_readme_opens_with_the_two_commands() -> None:
    opening = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ", 1)[0]
    assert re.search(r"```\w*\nmake demo.*\nmake test.*\n```", opening)


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", "docs/cluster.md", "actors/README.md"]
)
def test_links_between_documents_lead_somewhere(path: str) -> None:
    folder = (ROOT / path).parent
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / path).read_text(encoding="utf-8"))
    for link in links:
        assert "://" in link or (folder / link).exists(), f"{path}: {link}"


def test_the_licence_is_the_declared_one(project: dict[str, object]) -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_hooks_need_no_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)
    assert {"ruff", "ruff-format", "mypy"} <= {hook["id"] for hook in hooks}


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check", "bench", "clean"])
def test_make_knows_its_targets(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    help_text = subprocess.run(
        ["make"], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert f"make {target} " in help_text


@pytest.mark.skipif(os.name != "posix", reason="shell scripts")
@pytest.mark.parametrize("found", [True, False])
def test_setup_passes_over_interpreters_that_do_not_run(tmp_path: Path, found: bool) -> None:
    """Version managers put launchers on PATH that only print an error."""
    broken, working, plain = tmp_path / "broken", tmp_path / "working", tmp_path / "plain"
    for folder, script in (
        (broken, "echo 'no such version' >&2; exit 127"),
        (working, 'echo "$@" >>"$0.calls"; case "$*" in "-c "*) exit 0;; esac; exit 1'),
    ):
        folder.mkdir()
        (folder / "python3.11").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "python3.11").chmod(0o755)
    plain.mkdir()
    for tool in ("rm", "printf"):
        where = shutil.which(tool)
        assert where
        (plain / tool).symlink_to(where)
    path = [broken, working, plain] if found else [broken, plain]
    done = subprocess.run(
        ["/bin/sh", ROOT / ".ci" / "setup", ".venv/stamp", "requirements.txt"],
        check=False,
        cwd=tmp_path,
        env={"PATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert not (tmp_path / ".venv").exists()
    if found:  # it was asked for an environment, and the message says what it lacks
        assert "-m venv .venv" in (working / "python3.11.calls").read_text()
        assert "cannot make a virtual environment" in done.stderr
    else:
        assert "No Python 3.11 or 3.12 was found" in done.stderr


def test_what_a_job_uploads_is_complete_and_small(tmp_path: Path) -> None:
    """`ray job submit --working-dir .` leaves out what .gitignore and .rayignore name."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    excludes = get_runtime_env_default_excludes()
    create_package(str(ROOT), package, include_gitignore=True, excludes=excludes)
    with ZipFile(package) as archive:
        names = archive.namelist()
    assert {"jobs/__init__.py", "pipelines/__init__.py", "actors/row.py", "model/config.py"} <= set(
        names
    )
    unwanted = (".git/", ".venv/", "demo-output/", "docs/", "out/")
    assert [name for name in names if name.startswith(unwanted) or "__pycache__" in name] == []
    assert package.stat().st_size < 10 * 1024**2
