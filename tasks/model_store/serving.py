"""Which model serves, by the ledger, and whether the registry's alias `champion` follows: for `strop status`, `history` and `run`.

    serving = read_serving(config)
    print(serving.champion, serving.problem)

MLflow is not opened: a look at it costs milliseconds (tasks/tracking/glance.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.model_store.ledger import Entry, champion_of
from tasks.model_store.ledger_chain import FETCH_COMMAND, Recorded
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_witnesses import registry_findings
from tasks.tracking.glance import RegistryState, glance, has_version

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


@dataclass(frozen=True)
class Serving:
    chain: list[Recorded]
    seen: RegistryState

    @property
    def entries(self) -> list[Entry]:
        return [recorded.entry for recorded in self.chain]

    @property
    def champion(self) -> Entry | None:
        """By the ledger, which is right."""
        return champion_of(self.entries)

    @property
    def alias_follows(self) -> bool | None:
        """Whether the alias says what the ledger says; None where the registry could not be reached."""
        if self.seen.problem is not None:
            return None
        return not self.seen.is_dangling and self.seen.alias == self._version and self._is_registered

    @property
    def problem(self) -> str | None:
        """What a person should know of the alias; None where all is well."""
        if self.alias_follows:
            return None
        if self.seen.problem is not None:
            return f"Whether the registry's alias `champion` follows is not known: {self.seen.problem}"
        says = f"the ledger says {_named(self._version)}"
        if self._version is not None and not self._is_registered:
            return (
                f"The registry has no version {self._version} any more, which serves by the ledger: it was deleted there. "
                "Make it again: strop registry rebuild"
            )
        back = "the next `strop run` sets it back"
        if self._version is None:
            back = f"if the ledger was not fetched: {FETCH_COMMAND}; if the alias was set by hand, remove it"
        if self.seen.is_dangling:
            return f"The registry's alias `champion` points at a version that was deleted, {says}: {back}"
        return f"The registry's alias `champion` says {_named(self.seen.alias)}, {says}: {back}"

    @property
    def _version(self) -> int | None:
        return self.champion.version if self.champion else None

    @property
    def _is_registered(self) -> bool:
        return self._version is None or self.seen.versions is None or self._version in self.seen.versions


def read_serving(config: PipelineConfig) -> Serving:
    """The ledger, verified, and what the registry says.

    Raises:
        LedgerBroken: the ledger does not follow, or the registry names an entry that is not in it.
    """
    model = config.register_.model_name
    seen = glance(config)  # before the ledger: its tags are set after an entry is appended
    if seen.problem is not None:
        return Serving(read_verified(model), seen)
    chain = read_verified(model, lambda chain: registry_findings(model, chain, seen.registered, seen.anchors))
    serving = Serving(chain, seen)
    champion = serving.champion
    if (
        champion is not None and seen.versions is None and not serving.alias_follows
    ):  # a server was asked for the alias only
        is_gone = has_version(config, champion.version) is False
        return Serving(chain, replace(seen, versions=frozenset() if is_gone else frozenset({champion.version})))
    return serving


def champion_at(config: PipelineConfig, moment: float) -> int | None:
    """The version that served when a command began: entries that were made while it started up are not counted.

    A time of an entry that is still ahead is of a machine whose clock is fast, and is ignored.
    """
    entries = [recorded.entry for recorded in read_verified(config.register_.model_name)]
    now = datetime.now(UTC).timestamp()
    champion = champion_of([e for e in entries if not int(moment) < _seconds(e.when) <= now])
    return champion.version if champion else None


def _seconds(when: str) -> float:
    try:
        return datetime.fromisoformat(when).timestamp()
    except ValueError:
        return 0.0


def _named(version: int | None) -> str:
    return f"v{version}" if version else "no version"
