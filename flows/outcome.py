"""The outcome of a run: the command converts it to an exit code, the flow to a named state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tasks.state.verdict import rows_needed_text

Kind = Literal["nothing_new", "promoted", "waiting", "refused", "inconclusive", "back_at_champion"]

STATE_NAMES: dict[Kind, str] = {
    "nothing_new": "NothingNew",
    "promoted": "Promoted",
    "waiting": "Waiting",
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
            "waiting": f"Version {self.version} passed the gate and waits for approval; {serves}. "
            f"Approve it: strop promote {self.version}",
            "refused": f"The gate refused version {self.version}; {serves}.",
            "inconclusive": f"The test rows do not show whether version {self.version} is better"
            f"{rows_needed_text(self.rows_needed)}; {serves}.",
            "back_at_champion": f"The data and parameters are again those of version {self.champion}, which serves: "
            "nothing was trained.",
        }[self.kind]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "message": self.message}
