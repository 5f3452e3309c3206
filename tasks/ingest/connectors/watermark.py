"""Values of a watermark column: stored as JSON between runs, and lowered by an overlap. Pure."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

_KINDS: dict[str, Any] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "decimal": decimal.Decimal,
}
"""Type that JSON lacks → its parser."""


def to_json(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def from_json(value: Any) -> Any:
    if isinstance(value, dict):
        ((kind, text),) = value.items()
        return _KINDS[kind](text)
    return value


def lowered(value: Any, overlap: float) -> Any:
    """The value minus the overlap: seconds for a time, days for a date, else a number.

    A time stored as text is rounded down to the minute, without its zone, so that as text it sorts before all later values.

    Raises:
        ValueError: it is neither a number nor a time.
    """
    if isinstance(value, datetime.datetime):
        return value - datetime.timedelta(seconds=overlap)
    if isinstance(value, datetime.date):
        return value - datetime.timedelta(days=overlap)
    if isinstance(value, decimal.Decimal):
        return value - decimal.Decimal(str(overlap))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value - (int(overlap) if float(overlap).is_integer() else overlap)
    text = str(value)
    try:
        if len(text) == len("2026-11-01"):
            return lowered(datetime.date.fromisoformat(text), overlap).isoformat()
        time = lowered(datetime.datetime.fromisoformat(text), overlap).replace(tzinfo=None)
        return time.isoformat(sep=text[10], timespec="minutes")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is neither a number nor a time (2026-11-01T10:00:00)") from error
