"""The version of the code that made an output."""

import tomllib
from pathlib import Path


def _version() -> str:
    # Read from the project file, not from package metadata: jobs run from a working directory
    # without installation.
    file = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if file.exists():
        return str(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"])
    from importlib.metadata import version

    return version("talkmos")


CODE_VERSION = _version()
