"""What a recorder is started with. It imports little: the gateway uses it, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.feedback.settings import RecordSettings
from tasks.pii.settings import PiiSettings


@dataclass(frozen=True)
class Start:
    """What a recorder is started with."""

    spool: str
    settings: RecordSettings
    pii: PiiSettings
    retention_days: int

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "settings": self.settings.model_dump(), "pii": self.pii.model_dump()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Start:
        settings, pii = RecordSettings(**values["settings"]), PiiSettings(**values["pii"])
        return cls(values["spool"], settings, pii, values["retention_days"])
