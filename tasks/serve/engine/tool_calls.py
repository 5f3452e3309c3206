"""Tool calls in an answer, in the form in which events report them. Pure."""

from __future__ import annotations

import json
from typing import Any

from tasks.scoring.read_answer import ReadAnswer


def calls_of(read: ReadAnswer) -> tuple[dict[str, Any], ...]:
    """Calls with their arguments as JSON text; () for any other answer."""
    if read.kind != "tool_calls" or read.is_unparsed:
        return ()
    calls = ((call["name"], call.get("arguments", {})) for call in read.as_json or ())
    return tuple(
        {"name": name, "arguments": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
        for name, value in calls
    )
