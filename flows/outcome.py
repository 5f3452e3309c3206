"""The outcome of a run: the command converts it to an exit code, the flow to a named state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tasks.promote.candidates import as_time
from tasks.state.verdict import rows_needed_text

Kind = Literal[
    "nothing_new", "promoted", "waiting", "expired", "canary", "rejected", "refused", "inconclusive", "back_at_champion"
]

STATE_NAMES: dict[Kind, str] = {
    "nothing_new": "NothingNew",
    "promoted": "Promoted",
    "waiting": "Waiting",
    "expired": "Expired",
    "canary": "Canary",
    "rejected": "Rejected",
    "refused": "Refused",
    "inconclusive": "Inconclusive",
    "back_at_champion": "BackAtChampion",
}
"""State names for Prefect's UI and automations. All have type Completed: a refusal is a result."""

NOT_PASSED_EXIT_CODE = 3


@dataclass(frozen=True)
class Outcome:
    kind: Kind
    champion: int | None
    """The version that serves now."""
    version: int | None = None
    """The version that this run registered."""
    rows_needed: int | None = None
    """Of an inconclusive verdict: about how many further test rows would decide it."""
    until: str | None = None
    """Of a version that waits for approval, or whose approval expired: the end of the time for it (UTC, ISO 8601)."""

    @property
    def exit_code(self) -> int:
        return NOT_PASSED_EXIT_CODE if self.kind in ("refused", "inconclusive") else 0

    @property
    def message(self) -> str:
        """One sentence for the user."""
        serves = f"version {self.champion} serves" if self.champion else "no version serves yet"
        return {
            "nothing_new": f"Nothing is new: nothing was trained, {serves}.",
            "promoted": f"Version {self.version} passed the gate and is now champion.",
            "waiting": f"Version {self.version} passed the gate and waits for approval until {as_time(self.until)}; {serves}. "
            f"Decide: {approval_commands(self.version)}",
            "expired": f"Version {self.version} passed the gate, but its approval expired on {as_time(self.until)}; {serves}. "
            "Judge it again: strop run --rejudge",
            "canary": f"Version {self.version} answers a share of the users as a canary, until their ratings decide; {serves}. "
            "See: strop canary status",
            "rejected": f"Version {self.version} passed the gate, but a person rejected it or its canary was taken back "
            f"(see strop history); {serves}.",
            "refused": f"The gate refused version {self.version}; {serves}.",
            "inconclusive": f"The test rows do not show whether version {self.version} is better"
            f"{rows_needed_text(self.rows_needed)}; {serves}.",
            "back_at_champion": f"The data and parameters are again those of version {self.champion}, which serves: "
            "nothing was trained.",
        }[self.kind]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "message": self.message}


def approval_commands(version: int | None) -> str:
    """The two commands that decide about a version, in one line."""
    return f"strop approve {version} --why TEXT, or strop reject {version} --why TEXT"
