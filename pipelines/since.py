"""Times as people give them: dates, times and ages; without a time zone they are UTC."""

import datetime as dt
import re
import time

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(min|h|d|w)", re.IGNORECASE)
_SECONDS = {"min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_EPOCH = re.compile(r"\d{9,10}(?:\.\d+)?")  # seconds since 1970, of the years 1973 to 2286


def timestamp_of(value: str | dt.date) -> float:
    """Return a point in time as seconds since 1970.

    Args:
        value: ISO 8601 date (its midnight) or time, or seconds since 1970. UTC unless it names a
            zone.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, str):
        text = value.strip()
        if _EPOCH.fullmatch(text):
            return float(text)
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"{value!r} is no time: expected one such as 2026-11-20, 2026-11-20T03:00:00Z or "
                "2026-11-20T03:00+01:00 (without a zone: UTC)"
            ) from None
    elif isinstance(value, dt.datetime):
        moment = value
    else:
        moment = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()


def since_timestamp(text: str, now: float | None = None) -> float:
    """Return the point in time that ``--since`` means, as seconds since 1970.

    Args:
        text: An age before now (``90min``, ``36h``, ``7d``, ``2w``), or what :func:`timestamp_of`
            reads.
        now: Seconds since 1970; None: the clock.

    Raises:
        ValueError: It cannot be read, or lies in the future.
    """
    current = time.time() if now is None else now
    age = _AGE.fullmatch(text.strip())
    if age is not None:
        return max(0.0, current - float(age[1]) * _SECONDS[age[2].lower()])
    try:
        found = timestamp_of(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an age such as 90min, 36h, 7d or 2w nor a time such as "
            "2026-11-20 or 2026-11-20T03:00+01:00 (without a zone: UTC)"
        ) from None
    if found > current:
        raise ValueError(f"{text} lies in the future: no video can be newer")
    return found


def shown(moment: float) -> str:
    """Write seconds since 1970 as a time in UTC."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
