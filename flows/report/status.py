"""The status of the project: which version serves, which wait, whether there is new data. For `strop status`."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape

from flows.change_check import is_nothing_new
from flows.runtime.lock import is_running
from tasks import paths
from tasks.config import PipelineConfig
from tasks.model_store.ledger import Entry
from tasks.model_store.ledger_entries import rejected_versions
from tasks.model_store.serving import read_serving
from tasks.runtime.plurals import count_of
from tasks.runtime.visible_text import printable
from tasks.state.decisions import excluded_batches, read_decisions
from tasks.state.manifest import read_manifest


@dataclass(frozen=True)
class ProjectStatus:
    model: str
    champion: int | None
    champion_since: str | None
    waiting: list[int]
    """Versions that passed the gate, were not promoted, and are newer than the champion."""
    versions: int
    batches: int
    raw_rows: int
    excluded: list[str]
    """Batches excluded by the user."""
    is_running: bool
    is_anything_new: bool
    alias: int | None
    """The version of the registry's alias `champion`."""
    alias_follows: bool | None
    """Whether it is the champion's; None if the registry could not be read."""
    alias_problem: str | None
    """A message about the alias, if there is a problem."""
    log: str | None
    """The log of scheduled runs, if there is one."""

    def lines(self) -> list[str]:
        """Lines for the terminal, in rich's markup."""
        since = f"Version {self.champion} serves since {self.champion_since}"
        batches, rows = count_of(self.batches, "batch", "batches"), count_of(self.raw_rows, "row")
        collected = f"{self.versions} judged, {batches} ({rows}) collected."
        lines = [f"[bold]{since if self.champion else 'No version serves yet'}.[/] {collected}"]
        for version in self.waiting:
            lines.append(f"Version {version} passed the gate and waits: [bold]strop promote {version}[/]")
        if self.alias_problem:
            lines.append(f"[yellow]{escape(self.alias_problem)}[/]")
        if self.excluded:
            excluded = ", ".join(escape(printable(batch)) for batch in self.excluded)
            lines.append(f"Excluded: {excluded}. Include one again: [bold]strop data include BATCH[/]")
        if self.is_running:
            lines.append("A run is in progress.")
        elif self.is_anything_new:
            lines.append("There is new data, a changed setting or file, or an unfinished run: [bold]strop run[/]")
        else:
            lines.append("Nothing is new.")
        if self.log:
            lines.append(f"Log of scheduled runs: {self.log}")
        return lines


def read_status(config: PipelineConfig) -> ProjectStatus:
    model = config.register_.model_name
    serving = read_serving(config)
    entries, champion = serving.entries, serving.champion
    manifest = read_manifest()
    running = is_running()
    return ProjectStatus(
        model=model,
        champion=champion.version if champion else None,
        champion_since=champion.when if champion else None,
        waiting=waiting_versions(entries),
        versions=sum(entry.kind == "judged" for entry in entries),
        batches=len(manifest),
        raw_rows=sum(batch.rows for batch in manifest),
        excluded=sorted(excluded_batches(read_decisions())),
        is_running=running,
        # a running stage holds DVC's lock: a check would wait for it
        is_anything_new=running or not is_nothing_new(config),
        alias=serving.registry.alias,
        alias_follows=serving.alias_matches,
        alias_problem=serving.problem,
        log=str(paths.LOG) if paths.LOG.exists() else None,
    )


def waiting_versions(entries: list[Entry]) -> list[int]:
    """Versions that passed, were neither promoted nor rejected, and are newer than all promoted ones."""
    promoted = {entry.version for entry in entries if entry.kind == "promoted"}
    newest = max(promoted, default=0)
    passed = {e.version for e in entries if e.kind == "judged" and e.passed and e.version > newest}
    return sorted(passed - rejected_versions(entries))
