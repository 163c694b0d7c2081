"""What the doors share: exit statuses, and every error as a message that a person can use."""

import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

OK, REFUSED, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130


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
