"""The result of a check, on this disk: one file for a version, its files, an engine and a policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.runtime.files import content_digest, write_json
from tasks.runtime.redaction.arguments import without_secrets
from tasks.runtime.redaction.known import redact_values
from tasks.runtime.redaction.text import redact
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.remote_version import RemoteVersion
from tasks.serve.served_path.comparison import Policy

DIGEST = 12
"""Characters of an engine's digest in a tag."""


@dataclass(frozen=True)
class EngineIdentity:
    """What may change the answers of a version, beside its files."""

    engine: str
    """Such as `vllm 0.11.0`."""
    precision: str
    settings: Mapping[str, Any]
    """The command, or the address and the name of the base; without secrets."""

    @property
    def digest(self) -> str:
        return content_digest([self.engine, self.precision, dict(self.settings)])[:DIGEST]


def identity_of(engine: str, precision: str, settings: EngineSettings) -> EngineIdentity:
    names = {"command"} if settings.kind == "command" else {"base_url", "base_model"}
    chosen: dict[str, Any] = redact_values(settings.model_dump(mode="json", include=names))
    if settings.command is not None:
        chosen["command"] = [redact(argument) for argument in without_secrets(settings.command)]
    return EngineIdentity(engine, precision, {"kind": settings.kind, **chosen})


@dataclass(frozen=True)
class ServedCheck:
    """A check that was carried out."""

    model: str
    version: int
    weights: str
    files: str
    engine: str
    engine_digest: str
    precision: str
    settings: Mapping[str, Any]
    policy: Mapping[str, Any]
    when: str
    passed: bool
    reason: str
    """Why it did not pass."""
    probe: Mapping[str, Any]
    comparison: Mapping[str, Any] | None
    """None: the probe did not pass, so no rows were sent."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def summary(self) -> str:
        if not self.passed or self.comparison is None:
            return f"{self.engine} {self.precision}: {self.reason}"
        rows, equal, agreement = (self.comparison[name] for name in ("rows", "equal", "agreement"))
        return f"{self.engine} {self.precision}: {equal} of {rows} answers equal, {agreement:.1%} of their tokens"


def check_path(version: RemoteVersion, identity: EngineIdentity, policy: Policy) -> Path:
    """The file of a check. Nothing in its name is a name of the version that could be used again."""
    key = [version.weights, version.files, version.model, version.number, identity.digest, asdict(policy)]
    return paths.SERVED_CHECKS / f"{content_digest(key)[:32]}.json"


def read_check(path: Path) -> ServedCheck | None:
    """The check in a file; None if it is not there, or cannot be read."""
    try:
        return ServedCheck(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_check(path: Path, check: ServedCheck) -> None:
    write_json(path, check.as_json())
