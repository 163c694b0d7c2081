"""What the doors share: exit statuses, options, and every error as a message for a person."""

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

OK, REFUSED, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130
STANDS = "what was committed stands, start again to resume"
BACKBONES = ("visual", "audio", "sync")


def weights_options(group: Any, help_of_all: str) -> None:
    """Add ``--weights`` and one option for each backbone to a group of arguments."""
    group.add_argument("--weights", metavar="SOURCE", help=help_of_all)
    for name in BACKBONES:
        group.add_argument(
            f"--{name}-weights", metavar="SOURCE", help="pretrained, seeded, or a path or URI"
        )


def weights_given(args: argparse.Namespace) -> dict[str, str | None]:
    """Return ``<backbone>.weights`` -> source; that of a backbone wins over that of all."""
    return {
        f"{name}.weights": getattr(args, f"{name}_weights") or args.weights for name in BACKBONES
    }


def as_overrides(values: Mapping[str, object]) -> list[str]:
    """Write the values that were given as ``key=value`` settings."""
    # JSON is YAML: no string is mistaken for a number or a list.
    return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]


def usage(name: str, message: str) -> int:
    """Say what is wrong with the command; returns the exit status."""
    print(f"jobs/{name}: {message}", file=sys.stderr)
    return USAGE


def guarded(name: str, command: Callable[[], int], interrupted: str) -> int:
    """Run a command; returns its exit status, or that of what went wrong.

    Args:
        name: File of the door.
        command: Returns the exit status.
        interrupted: What to say after Ctrl-C or SIGTERM: what stands, and how to go on.
    """
    from pipelines.errors import UserInputError
    from pipelines.lock import LockHeld
    from pipelines.messages import RunError
    from pipelines.provenance import OutputMismatchError
    from pipelines.storage import StorageError

    # `ray job stop` and schedulers end a job this way.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return command()
    except (UserInputError, OutputMismatchError) as error:
        return usage(name, str(error))
    except (RunError, StorageError, LockHeld) as error:
        print(f"jobs/{name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - Python's own status would be 1, which says something else
        traceback.print_exc()
        print(f"jobs/{name}: this is a defect of TalkMOS, please report it", file=sys.stderr)
        return FAILED


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
