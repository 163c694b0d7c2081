"""A driver to be killed: ``python -m tests.drive_degrade CORPUS OUT [a.b=value …]``."""

import sys

from pipelines.config import load_config
from pipelines.degrade import degrade
from pipelines.degrading.config import DegradeConfig


def main() -> None:
    corpus, out, *settings = sys.argv[1:]
    config = load_config(DegradeConfig, None, [f"corpus.corpus={corpus}", *settings])
    print("started", flush=True)
    done = degrade(config, out, virtual=False, local_cpus=2)
    print("finished", len(done.made), flush=True)


if __name__ == "__main__":
    main()
