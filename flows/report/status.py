"""The status of the project: which version serves, which wait, whether there is new data. For `strop status`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.markup import escape

from flows.change_check import is_nothing_new
from flows.outcome import approval_commands
from flows.runtime.lock import is_running
from tasks import paths
from tasks.config import PipelineConfig
from tasks.model_store.canaries import canary_of
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.serving import read_serving
from tasks.promote.candidates import Candidate, as_time, waiting_candidates
from tasks.runtime.plurals import count_of
from tasks.runtime.visible_text import printable
from tasks.state.decisions import excluded_batches, read_decisions
from tasks.state.manifest import read_manifest


@dataclass(frozen=True)
class ProjectStatus:
    model: str
    champion: int | None
    champion_since: str | None
    waiting: list[Candidate]
    """Versions that passed the gate against the present champion, and that nobody has promoted or rejected."""
    canary: dict[str, Any] | None
    """The canary that runs: its version, share and unit."""
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
        lines += [_waiting_line(candidate) for candidate in self.waiting]
        if self.canary:
            share = f"{self.canary['share']:.0%} of the {self.canary['by']}s"
            lines.append(f"Version {self.canary['version']} answers {share} as a canary: [bold]strop canary status[/]")
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
        waiting=waiting_candidates(config, entries),
        canary=_canary(serving.chain),
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


def _canary(chain: list[ChainNode]) -> dict[str, Any] | None:
    canary = canary_of(chain)
    return {"version": canary.version, "share": canary.plan.share, "by": canary.plan.by} if canary else None


def _waiting_line(candidate: Candidate) -> str:
    version = f"Version {candidate.version} passed the gate"
    if candidate.until is None:
        return f"{version} and waits: [bold]strop promote {candidate.version}[/]"
    if candidate.is_expired:
        again = "[bold]strop run --rejudge[/]"
        return f"{version}, but its approval expired on {as_time(candidate.until)}. Judge it again: {again}"
    commands = approval_commands(candidate.version)
    return f"Version {candidate.version} waits for approval until {as_time(candidate.until)}: [bold]{commands}[/]"
