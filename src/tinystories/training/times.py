"""Points in time, as the files name them."""

from datetime import UTC, datetime, timedelta


def now() -> str:
    """The time now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def later(time: str, seconds: float) -> str:
    """The point so many seconds after another one."""
    return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
