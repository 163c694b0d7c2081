"""Imports run downwards only: jobs > pipelines > actors > model."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT

LAYERS = ("model", "actors", "pipelines", "jobs")  # from the bottom up
OUTSIDE = ("tests", "benchmarks")  # may use the product; the product may not use them

# model/ is mathematics: beside the standard library it knows these and nothing else.
MODEL_MAY_IMPORT = {"model", "numpy", "pydantic", "scipy", "torch"}
# I/O and processes are not mathematics, whoever ships them.
MODEL_MAY_NOT_IMPORT = {
    "http",
    "multiprocessing",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "urllib",
}

# The driver of a run imports actors' configuration, so these are imported where they are used.
HEAVY = {
    "av", "cv2", "librosa", "matplotlib", "mediapipe", "onnxruntime",
    "skimage", "sklearn", "torch", "torchvision", "transformers",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    module: str  # absolute dotted name; "from a import b" gives a and a.b
    line: int
    eager: bool  # runs when the importing module is imported


def imports_of(source: str, module: str) -> list[Import]:
    """Read the imports of a module's source, at any depth."""
    package = module.rsplit(".", 1)[0]

    def visit(node: ast.AST, eager: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: 1 - node.level or None]
                base = ".".join([*parents, *filter(None, [node.module])])
            yield Import(base, node.lineno, eager)
            yield from (Import(f"{base}.{alias.name}", node.lineno, eager) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, eager)
        else:
            inner = eager and not isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            )
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inner)

    return list(visit(ast.parse(source), True))


def read_tree(root: Path) -> dict[str, list[Import]]:
    """Read every module of the four layers under ``root``."""
    tree = {}
    for layer in LAYERS:
        for path in sorted((root / layer).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts)
            imports = imports_of(path.read_text(encoding="utf-8"), name)
            tree[name.removesuffix(".__init__")] = imports
    return tree


def top(module: str) -> str:
    return module.split(".", 1)[0]


def violations(tree: dict[str, list[Import]]) -> list[str]:
    """Name every import that breaks the rules, as ``module:line what``."""
    found: list[str] = []
    for module, imports in tree.items():
        layer = top(module)
        above = LAYERS[LAYERS.index(layer) + 1 :]
        for item in imports:
            target = top(item.module)
            where = f"{module}:{item.line} imports {item.module}"
            if target in above or target in OUTSIDE:
                found.append(f"{where}: upwards")
            if layer == "actors" and target == "ray":
                found.append(f"{where}: actors know nothing of Ray")
            if layer == "model" and (
                target in MODEL_MAY_NOT_IMPORT
                or (target not in MODEL_MAY_IMPORT and target not in sys.stdlib_module_names)
            ):
                found.append(f"{where}: model/ is mathematics only")
        if layer != "model":
            found += [
                f"{module} loads {' -> '.join(chain)} when imported: import it where it is used"
                for chain in heavy_chains(tree, module)
            ]
    return sorted(set(found))


def heavy_chains(tree: dict[str, list[Import]], start: str) -> list[list[str]]:
    """Paths from ``start`` through eager imports of the project to a heavy library."""
    chains, seen, queue = [], {start}, [[start]]
    while queue:
        path = queue.pop()
        for item in tree[path[-1]]:
            if not item.eager:
                continue
            if top(item.module) in HEAVY:
                chains.append([*path[1:], f"{top(item.module)} (line {item.line})"])
            parts = item.module.split(".")
            for prefix in (".".join(parts[: n + 1]) for n in range(len(parts))):
                if prefix in tree and prefix not in seen:
                    seen.add(prefix)
                    queue.append([*path, prefix])
    return chains


def test_the_product_keeps_its_layers() -> None:
    tree = read_tree(ROOT)
    assert {"model.config", "actors.row"} <= set(tree)
    assert violations(tree) == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("model/bad.py", "import actors.row", "upwards"),
        ("model/bad.py", "def f():\n    from pipelines import pool", "upwards"),
        ("model/bad.py", "from ray import data", "mathematics only"),
        ("model/bad.py", "import cv2", "mathematics only"),
        ("model/bad.py", "import subprocess", "mathematics only"),
        ("actors/bad.py", "from jobs.extract import main", "upwards"),
        ("actors/bad.py", "def f():\n    import ray", "nothing of Ray"),
        ("actors/bad.py", "import torch", "where it is used"),
        (
            "actors/bad.py",
            "try:\n    import av.codec\nfinally:\n    pass",
            "where it is used",
        ),
        ("actors/bad.py", "from model.deep import x", "model.deep -> torch (line 1)"),
        ("actors/deeper/bad.py", "from ..heavy import x", "actors.heavy -> cv2 (line 1)"),
        ("pipelines/bad.py", "class A:\n    import librosa", "where it is used"),
        ("pipelines/bad.py", "from actors import heavy", "actors.heavy -> cv2 (line 1)"),
        ("pipelines/bad.py", "import tests.support", "upwards"),
        ("jobs/bad.py", "import mediapipe as mp", "where it is used"),
    ],
)
def test_a_planted_violation_is_found(
    tmp_path: Path, path: str, source: str, complaint: str
) -> None:
    sources = {"model/deep.py": "import torch", "actors/heavy.py": "from cv2 import resize"}
    for name, text in {**sources, path: source}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    bad = path.removesuffix(".py").replace("/", ".")
    mine = [line for line in violations(read_tree(tmp_path)) if line.startswith(bad)]
    assert any(complaint in line for line in mine), mine


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "model/good.py",
            "import math\nimport torch.nn\nfrom model.config import Config",
        ),
        ("actors/good.py", "def f():\n    import torch\n    import cv2"),
        ("actors/good.py", "if TYPE_CHECKING:\n    import torch"),
        (
            "actors/good.py",
            "if typing.TYPE_CHECKING:\n    import av\nelse:\n    import numpy",
        ),
        ("pipelines/good.py", "import ray\nfrom actors.row import check"),
        ("jobs/good.py", "from pipelines.extract import run\nfrom actors.row import COLUMNS"),
    ],
)
def test_a_proper_import_is_let_through(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source, encoding="utf-8")
    assert violations(read_tree(tmp_path)) == []


def loaded_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after ``statement``."""
    code = f"import sys\n{statement}\nprint(*{{m.split('.')[0] for m in sys.modules}}, sep=chr(10))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_driver_never_loads_what_the_workers_need() -> None:
    loaded = loaded_after("import pipelines.extract")
    assert "ray" in loaded
    assert not loaded & HEAVY


def test_actors_load_without_ray_and_without_heavy_libraries() -> None:
    modules = sorted(name for name in read_tree(ROOT) if top(name) == "actors")
    assert not loaded_after(f"import {', '.join(modules)}") & (HEAVY | {"ray"})
