"""Times in documents: RFC 3339, UTC, ``Z`` at the end, microseconds only where there are any."""

from datetime import UTC, datetime, timedelta


def format_time(moment: datetime) -> str:
    """``2024-03-15T16:00:00Z``.

    Raises:
        ValueError: where the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be written")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: object) -> datetime:
    """Read an RFC 3339 time as aware UTC.

    Raises:
        ValueError: where the text is no time, or names no zone.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a time")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is no time that can be told in UTC") from error


def time_left(until: datetime, now: datetime) -> str:
    """``1:02:03`` until a moment; ``0:00:00`` for a past one."""
    left = max(timedelta(0), until - now)
    return str(timedelta(seconds=int(left.total_seconds())))
