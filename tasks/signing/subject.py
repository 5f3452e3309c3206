"""What is signed, and the result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tasks.runtime.files import canonical_json

State = Literal["valid", "none", "untrusted", "invalid"]


@dataclass(frozen=True)
class Subject:
    """What is signed: a receipt, or a ledger entry."""

    name: str
    """In messages: `the receipt of v3`, `judged v3 (1a2b3c4d5e6f)`."""
    id: str
    """The digest of the receipt, or the commit of the entry."""
    file: str
    """The name of its content among the signed files."""
    content: bytes
    facts: dict[str, Any]
    """What the statement says about it: kind, model, version, commit, id."""
    earliest: datetime
    """The newest time in the ledger up to its entry: a signature cannot be older."""


@dataclass(frozen=True)
class Result:
    subject: Subject
    state: State
    detail: str
    """The owner of the key; else what is wrong, and how to repair it."""

    @property
    def problem(self) -> str:
        return f"{self.subject.name} {self.detail}"


def statement_of(subject: Subject, signed_at: datetime) -> bytes:
    return (canonical_json({**subject.facts, "signed_at": signed_at.isoformat()}) + "\n").encode()
