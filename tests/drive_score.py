"""A driver to be killed: ``python -m tests.drive_score CORPUS CHECKPOINT OUT [a.b=value …]``.

``TALKMOS_TEST_STOP`` names a function ``module:name`` before whose call the process kills itself.
"""

import importlib
import os
import signal
import sys
from typing import Any, NoReturn

from pipelines.score import score
from pipelines.scoring.config import load_score_config
from tests.score_fakes import make_score_fake


def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit


def main() -> None:
    corpus, checkpoint, out, *settings = sys.argv[1:]
    if stop := os.environ.get("TALKMOS_TEST_STOP"):
        module, _, name = stop.partition(":")
        setattr(importlib.import_module(module), name, die)
    given = [f"corpus.corpus={corpus}", f"checkpoint={checkpoint}", *settings]
    config, peek = load_score_config(None, given)
    print("started", flush=True)
    told = score(config, peek, out, local_cpus=2, factory=make_score_fake)
    print("finished", told.summary["run"]["videos"], flush=True)


if __name__ == "__main__":
    main()
