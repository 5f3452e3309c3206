"""The champion in the ledger, and whether the registry's alias matches it: for `strop status`, `history` and `run`.

    serving = read_serving(config)
    print(serving.champion, serving.problem)

MLflow is not imported: reading the registry costs milliseconds (tasks/tracking/glance.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.errors import SigningError
from tasks.model_store.ledger import Entry, champion_of, champion_version, version_label
from tasks.model_store.ledger_chain import FETCH_COMMAND, ChainNode
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_remote import follow_if_behind
from tasks.model_store.ledger_witnesses import registry_findings
from tasks.model_store.signatures import require_signed
from tasks.tracking.glance import RegistryState, glance, has_version

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


@dataclass(frozen=True)
class Serving:
    chain: list[ChainNode]
    registry: RegistryState
    unsigned: str | None = None
    """Why the champion must not be loaded, if `signing.require` names `serving`."""

    @property
    def entries(self) -> list[Entry]:
        return [node.entry for node in self.chain]

    @property
    def champion(self) -> Entry | None:
        """The champion in the ledger, which is authoritative."""
        return champion_of(self.entries)

    @property
    def alias_matches(self) -> bool | None:
        """Whether the alias points at the champion in the ledger; None where the registry could not be read."""
        if self.registry.problem is not None:
            return None
        return not self.registry.is_dangling and self.registry.alias == self._version and self._is_registered

    @property
    def has_unnamed_verdict(self) -> bool:
        """Whether a judged version, as far as its tags were read, names no ledger entry: its registration was killed."""
        judged = {entry.version for entry in self.entries if entry.kind == "judged"}
        return any(version in judged and not named for version, named in self.registry.anchors.items())

    @property
    def problem(self) -> str | None:
        """A message about an alias that does not match, or missing signatures; None where there is no problem."""
        if self.alias_matches or self.unsigned is not None:
            return self.unsigned
        if self.registry.problem is not None:
            return f"Cannot check the registry's alias `champion`: {self.registry.problem}"
        champion = f"{version_label(self._version)} is the champion in the ledger"
        if self._version is not None and not self._is_registered:
            return (
                f"The registry no longer has version {self._version}, the champion in the ledger: it was deleted there. "
                "Rebuild it: strop registry rebuild"
            )
        fix = "the next `strop run` sets it back"
        if self._version is None:
            fix = f"if the ledger was not fetched: {FETCH_COMMAND}; if the alias was set by hand, remove it"
        if self.registry.is_dangling:
            return f"The registry's alias `champion` points at a version that was deleted, but {champion}: {fix}"
        return f"The registry's alias `champion` points at {version_label(self.registry.alias)}, but {champion}: {fix}"

    @property
    def _version(self) -> int | None:
        return champion_version(self.entries)

    @property
    def _is_registered(self) -> bool:
        return self._version is None or self.registry.versions is None or self._version in self.registry.versions


def read_serving(config: PipelineConfig) -> Serving:
    """The verified ledger and the state of the registry.

    Raises:
        LedgerBroken: the ledger is inconsistent, or the registry names an entry that is not in it.
    """
    model = config.register_.model_name
    state = glance(config)  # before the ledger: its tags are set after an entry is appended
    if state.problem is not None:
        return _with_signatures(config, Serving(read_verified(model), state))
    follow_if_behind(model, config.register_.ledger_remote, state.anchors)
    chain = read_verified(model, lambda chain: registry_findings(model, chain, state.anchors))
    serving = _with_signatures(config, Serving(chain, state))
    champion = serving.champion
    # only the alias was requested from a server
    if champion is not None and state.versions is None and not serving.alias_matches:
        is_gone = has_version(config, champion.version) is False
        versions = frozenset[int]() if is_gone else frozenset({champion.version})
        return replace(serving, registry=replace(state, versions=versions))
    return serving


def _with_signatures(config: PipelineConfig, serving: Serving) -> Serving:
    if serving.champion is None:
        return serving
    try:
        require_signed(config, serving.chain, serving.champion.version, "serving")
    except SigningError as error:
        return replace(serving, unsigned=str(error))
    return serving


def champion_at(config: PipelineConfig, moment: float) -> int | None:
    """The champion at the time when a command began: entries that were appended during its start-up are not counted.

    An entry with a time in the future comes from a machine with a fast clock; its time is ignored.
    """
    entries = [node.entry for node in read_verified(config.register_.model_name)]
    now = datetime.now(UTC).timestamp()
    return champion_version([e for e in entries if not int(moment) < _seconds(e.when) <= now])


def _seconds(when: str) -> float:
    try:
        return datetime.fromisoformat(when).timestamp()
    except ValueError:
        return 0.0
