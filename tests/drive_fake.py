"""A driver to be killed: ``python -m tests.drive_fake CORPUS OUT [ADDRESS] [a.b=value …]``."""

import sys

from pipelines.config import load_config
from pipelines.extract import ExtractConfig, extract
from tests.fakes import make_fake


def main() -> None:
    corpus, out, *rest = sys.argv[1:]
    settings = [r for r in rest if "=" in r]
    address = next((r for r in rest if "=" not in r), None)
    config = load_config(ExtractConfig, None, [f"corpus.corpus={corpus}", *settings])
    print("started", flush=True)
    summary = extract(config, out, address=address, local_cpus=2, factory=make_fake)
    print("finished", summary["videos"], flush=True)


if __name__ == "__main__":
    main()
