"""Users' decisions: an append-only log of what, which, who, when and why. It is an input of runs, and in the receipt.

Kinds: `exclude` and `include` a batch; `release` a row from quarantine; `drop` a row permanently; `restore` a dropped row, to which
the rules then apply again; `forget` a row that was trained on; `pin_train` (`pin_valid`, `pin_test`): keep a row in the split of an
erased row.
"""

from __future__ import annotations

import getpass
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from tasks import paths
from tasks.runtime.files import write_text
from tasks.runtime.json_lines import append_lines, read_log

Kind = Literal["exclude", "include", "release", "drop", "restore", "forget", "pin_train", "pin_valid", "pin_test"]

ON_ROWS = ("release", "drop", "restore")
"""Kinds of which the last one for a row applies."""


@dataclass(frozen=True)
class Decision:
    what: Kind
    which: str
    """A batch id (exclude, include) or a row id (all others)."""
    who: str
    when: str
    """UTC, ISO 8601."""
    why: str


def begin_decisions() -> None:
    """Creates the log with an empty line if it does not exist: for an empty file DVC prints a warning at every stage."""
    if not paths.DECISIONS.exists():
        write_text(paths.DECISIONS, "\n")


def read_decisions(path: Path = paths.DECISIONS) -> list[Decision]:
    """All decisions, oldest first.

    Raises:
        DataError: a line is not a decision.
    """
    return read_log(path, _parse_decision, "a decision", "Fix or remove the line")


def _parse_decision(**fields: str) -> Decision:
    decision = Decision(**fields)  # type: ignore[arg-type]
    if decision.what not in get_args(Kind) or not all(isinstance(value, str) for value in fields.values()):
        raise ValueError(f"`what` is one of {', '.join(get_args(Kind))}, and every field a text")
    return decision


def record_decision(what: Kind, which: str, why: str, path: Path = paths.DECISIONS) -> Decision:
    """Appends a decision, signed with the user's name and the time."""
    return record_decisions(what, [which], why, path)[0]


def record_decisions(
    what: Kind, which: list[str], why: str, path: Path = paths.DECISIONS, who: str | None = None
) -> list[Decision]:
    """Appends the same decision for many batches or rows in one write: a flush per line would take minutes.

    Args:
        who: the author; None for the user.
    """
    who, when = who or getpass.getuser(), datetime.now(UTC).isoformat(timespec="seconds")
    decisions = [Decision(what, name, who, when, why) for name in which]
    if decisions:
        append_lines(path, [asdict(decision) for decision in decisions])
    return decisions


def excluded_batches(decisions: list[Decision]) -> set[str]:
    """The batches whose last decision is `exclude`."""
    last = {d.which: d.what for d in decisions if d.what in ("exclude", "include")}
    return {which for which, what in last.items() if what == "exclude"}


def decided_rows(decisions: list[Decision], what: Literal["release", "drop"]) -> set[str]:
    """The rows whose last decision is `what`."""
    last = {d.which: d.what for d in decisions if d.what in ON_ROWS}
    return {which for which, kind in last.items() if kind == what}


def pinned_rows(decisions: list[Decision]) -> dict[str, str]:
    """Row → the split that it stays in."""
    return {d.which: d.what.removeprefix("pin_") for d in decisions if d.what.startswith("pin_")}
