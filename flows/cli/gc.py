"""gc: removes the files that nothing needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.common import Json, console, enter_project, print_json, readable_size, stdout_to_stderr
from tasks.runtime.plurals import count_of

if TYPE_CHECKING:
    from tasks.retention.plan import Plan


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove files that nothing needs: of refused candidates, interrupted trainings, and old caches (`retention` in params.yaml).

    Refused means here: refused, inconclusive, or rejected by a person. Other versions that passed, and those that have served, keep
    all files. A candidate whose files are removed is retired, by an entry in the ledger: it keeps its receipt, dataset, metrics and
    verdict. Nothing is removed from raw rows, remotes or git. No run may be in progress.
    """
    config = enter_project()
    from flows.runtime.lock import no_run_in
    from tasks.retention import stage
    from tasks.vcs.git_worktrees import worktrees

    with stdout_to_stderr():
        if dry_run:
            plan = stage.make_plan(config)
        else:
            with no_run_in(worktrees()):
                plan = stage.run(config)
    if as_json:
        print_json({**plan.as_dict(), "dry_run": dry_run})
    else:
        _report(plan, dry_run)


def _report(plan: Plan, dry_run: bool) -> None:
    from rich.table import Column

    from tasks.runtime.console import table_of

    if plan.removals:
        table = table_of("kind", "what", Column("bytes", justify="right"), "why")
        for removal in plan.removals:
            table.add_row(removal.kind, removal.what, f"{removal.bytes:,}", removal.reason)
        console().print(table)
    for note in plan.notes:
        console().print(f"Note: {note}", markup=False)
    for reason, kept in _by_reason(plan).items() if dry_run else ():
        console().print(f"Kept: {kept} ({reason})", markup=False)
    versions = ", ".join(f"v{version}" for version in plan.retired)
    if versions:
        console().print(f"{'To be retired' if dry_run else 'Retired'}: {versions}")
    freed = readable_size(plan.bytes)
    if not plan.removals:
        console().print("Nothing to remove.")
    elif dry_run:
        console().print(f"[bold]{freed}[/] would be freed. Remove: [bold]strop gc[/]")
    else:
        console().print(f"[bold]{freed}[/] freed, {count_of(len(plan.kept), 'version')} kept.")


def _by_reason(plan: Plan) -> dict[str, str]:
    """Why versions keep their files → these versions."""
    versions: dict[str, list[str]] = {}
    for version, reason in plan.kept.items():
        versions.setdefault(reason, []).append(f"v{version}")
    return {reason: ", ".join(names) for reason, names in versions.items()}
