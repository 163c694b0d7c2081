"""Errors of storage: which pass by themselves, how they are retried, what a person is told."""

import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import Field

from model.config import Config
from pipelines.uris import display_text, strip_credentials, strip_text

T = TypeVar("T")

_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
_TRANSIENT_ERRNO = {
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
    getattr(errno, "EREMOTEIO", errno.EIO),
}
# By name, so that the libraries are loaded only by who uses them.
_TRANSIENT_CLASSES = {
    "ClientConnectionError",
    "ClientPayloadError",
    "ConnectionError",
    "FSTimeoutError",
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "ReadTimeoutError",
    "ResponseParserError",
    "ServerDisconnectedError",
}


class RetryConfig(Config):
    """How often an operation on storage is tried before it counts as failed."""

    attempts: int = Field(default=8, ge=1)
    """Tries in all; 8 with the default delays last about 25 s."""
    base_s: float = Field(default=0.2, ge=0)
    """Delay before the second try, seconds; doubles from try to try."""
    cap_s: float = Field(default=10.0, ge=0)
    """Longest delay, seconds."""


class StorageError(Exception):
    """An operation on storage failed for good; the message says what, where and what to do.

    Args:
        message: One sentence or two for a person, credentials stripped.
        transient: True when another attempt later may succeed.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.transient = transient

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the journey between processes."""
        return (_rebuild, (type(self), self.message, self.transient))


class MissingError(StorageError):
    """The object, folder or bucket does not exist."""


def _rebuild(kind: type[StorageError], message: str, transient: bool) -> StorageError:
    return kind(message, transient=transient)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and what caused it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _response(error: BaseException) -> tuple[int, str]:
    """Return HTTP status and error code of what S3 or a web server answered, or (0, "")."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return int(status or 0), str(response.get("Error", {}).get("Code", ""))
        if any(kind.__name__ == "ClientResponseError" for kind in type(link).__mro__):  # aiohttp's
            return int(getattr(link, "status", 0)), ""
    return 0, ""


def is_transient(error: BaseException) -> bool:
    """Say whether the same operation may succeed when tried again."""
    if isinstance(error, StorageError):
        return error.transient
    status, code = _response(error)
    if status or code:
        return status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES
    for link in _chain(error):
        if isinstance(link, FileNotFoundError | PermissionError | FileExistsError):
            return False
        if isinstance(link, TimeoutError | ConnectionError):
            return True
        if any(kind.__name__ in _TRANSIENT_CLASSES for kind in type(link).__mro__):
            return True
        if isinstance(link, OSError) and link.errno in _TRANSIENT_ERRNO:
            return True
    return False


def is_conflict(error: BaseException) -> bool:
    """Say whether a conditional write was refused because its condition did not hold."""
    status, code = _response(error)
    return (
        isinstance(error, FileExistsError)
        or status in (409, 412)
        or code in ("PreconditionFailed", "ConditionalRequestConflict")
    )


def is_unsupported(error: BaseException) -> bool:
    """Say whether the storage does not know the operation at all."""
    status, code = _response(error)
    return status in (405, 501) or code in ("NotImplemented", "MethodNotAllowed")


def storage_error(error: BaseException, what: str, where: str) -> StorageError:
    """Turn what a storage library raised into a message for a person."""
    if isinstance(error, StorageError):
        return error
    place = display_text(strip_credentials(where))
    status, code = _response(error)
    names = {kind.__name__ for link in _chain(error) for kind in type(link).__mro__}
    detail = display_text(strip_text(str(error)) or type(error).__name__, 300).rstrip(". ")
    remote = "://" in where and not where.startswith(("file://", "memory://"))

    def failed(advice: str, *, transient: bool = False) -> StorageError:
        return StorageError(f"cannot {what} {place}: {detail}. {advice}", transient=transient)

    if names & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return failed(
            "No credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "AWS_PROFILE, or give the machine a role."
        )
    if code == "NoSuchBucket":
        return MissingError(
            f"cannot {what} {place}: the bucket does not exist. Check its name, the region and "
            "AWS_ENDPOINT_URL."
        )
    if isinstance(error, FileNotFoundError) or status == 404:
        return MissingError(f"cannot {what} {place}: it does not exist.")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return StorageError(
            f"cannot {what} {place}: a file stands where a folder is needed. Choose another place, "
            "or move the file away."
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        if remote:
            return failed(
                "Access was refused: check the credentials (AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_PROFILE), the endpoint "
                "and the rights on this bucket."
            )
        return failed("Check the owner and the permissions.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return failed("The disk is full: free some space and start again; nothing is lost.")
    if isinstance(error, ImportError):
        return failed("Install the package that serves this kind of URI.")
    if is_transient(error):
        advice = "The storage did not answer properly, however often it was asked: try again later"
        if remote:
            advice += " and check AWS_ENDPOINT_URL and the network"
        return failed(f"{advice}.", transient=True)
    return failed("Check the URI and the settings of the storage.")


def call(
    policy: RetryConfig,
    what: str,
    where: str,
    action: Callable[[], T],
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Run ``action``, again after transient errors.

    Delays grow exponentially and are spread at random between half and the whole of their length,
    so that many workers do not come back at the same instant.

    Raises:
        StorageError: It failed for good, or too often.
    """
    for attempt in range(1, policy.attempts + 1):
        try:
            return action()
        except (StorageError, TypeError, AttributeError, LookupError, AssertionError):
            raise  # final already, or a defect of the code
        # Storage plugins raise classes of their own: all are judged by is_transient and translated.
        except Exception as error:
            if attempt == policy.attempts or not is_transient(error):
                raise storage_error(error, what, where) from error
            delay = min(policy.cap_s, policy.base_s * 2 ** (attempt - 1))
            sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
    raise AssertionError("unreachable")
