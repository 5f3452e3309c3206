"""status, history, audit, config and doctor: read-only commands."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from flows.cli.common import (
    Json,
    console,
    enter_project,
    enter_root,
    print_grid,
    print_json,
    stdout_to_stderr,
    table_of,
)
from tasks.runtime.visible_text import printable

logger = logging.getLogger(__name__)

MARKS = {
    "ok": ("ok", "green"),
    "unrecorded": ("NOT RECORDED", "yellow"),
    "removed": ("REMOVED", "yellow"),
    "differs": ("DIFFERS", "bold red"),
}
"""Text and style for the state of an audit link."""
FINDING_STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def status(as_json: Json = False) -> int:
    """The model that serves, the results of the last run, and whether there is new data."""
    settings = enter_project()
    from flows.report.status import read_status
    from flows.report.summary import read_summary

    state, summary = read_status(settings), read_summary(settings)
    if not state.is_running:
        from tasks.vcs.dvc_pipeline import unrecorded_dataset

        if unrecorded := unrecorded_dataset():
            summary = replace(summary, unrecorded=unrecorded, drift=None)  # the drift is for the recorded dataset
    if as_json:
        print_json({**asdict(state), "summary": summary.as_dict()})
        return 0
    from flows.report.terminal import summary_page

    console().print(summary_page(summary))
    for line in state.lines():
        console().print(line)
    return 0


def history(as_json: Json = False) -> int:
    """All versions: judged, promoted, rolled back, by whom and why."""
    settings = enter_project()
    from tasks.model_store.serving import read_serving

    model = settings.register_.model_name
    serving = read_serving(settings)
    entries, champion = serving.entries, serving.champion
    if serving.problem:
        logger.warning(serving.problem)
    forgotten = _forgotten(model)
    if as_json:
        print_json([{**asdict(entry), "forgotten_rows": forgotten.get(entry.version, 0)} for entry in entries])
        return 0
    if not entries:
        console().print("No version yet. Create one: [bold]strop run[/]")
        return 0
    console().print(_history_table(entries, champion.version if champion else None))
    for version, rows in sorted(forgotten.items()):
        console().print(f"v{version} was trained on {rows:,} rows that were forgotten later")
    return 0


def _forgotten(model: str) -> dict[int, int]:
    """Version → the number of its training rows that were forgotten later."""
    from tasks.state.decisions import read_decisions

    rows = {decision.which for decision in read_decisions() if decision.what == "forget"}
    if not rows:
        return {}
    from collections import Counter

    from tasks.lineage.row_history import IN_WEIGHTS, versions_with

    splits_by_row = versions_with(rows, model).values()
    return dict(
        Counter(version for splits in splits_by_row for version, split in splits.items() if split in IN_WEIGHTS)
    )


GATE_STYLES = {"passed": "green", "inconclusive": "yellow"}


def _history_table(entries: list[Any], champion: int | None) -> Any:
    from rich.text import Text

    table = table_of("version", "what", "when (UTC)", "gate", "dataset", "weights", "who", "why")
    for column in table.columns:
        column.overflow, column.no_wrap = "ellipsis", True
    table.columns[-1].overflow, table.columns[-1].no_wrap = "fold", False
    styles = {"promoted": "green", "rolled_back": "yellow", "rejected": "red", "retired": "dim", "judged": ""}
    for entry in entries:
        serves = " ●" if entry.version == champion and entry.enters_service else ""
        gate = f"[{GATE_STYLES.get(entry.gate, 'red')}]{entry.gate}[/]"
        when = entry.when.replace("T", " ")[:16]
        what = f"[{styles[entry.kind] or 'none'}]{entry.kind.replace('_', ' ')}[/]"
        cells = (f"v{entry.version}{serves}", what, when, gate, entry.dataset[:8], entry.weights_digest[:8])
        table.add_row(*cells, Text(printable(entry.who)), Text(printable(entry.why)))
    return table


def audit(
    version: Annotated[int, typer.Argument(min=1, help="The version to check.")],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Also train it again from its tag, and compare the weights.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Check a version against its receipt: ledger, rows, parameters, code, base, model, verdict, registry."""
    settings = enter_project()
    from tasks.audit import stage

    links = stage.audit(settings, version)
    if rebuild and all(link.ok for link in links):
        with stdout_to_stderr():  # the version's own code runs, which may print
            links = [*links, *stage.rebuild(settings, version)]
    is_whole = all(link.ok for link in links)
    if as_json:
        print_json(
            {"version": version, "ok": is_whole, "links": [{**asdict(link), "state": link.state} for link in links]}
        )
        return 0 if is_whole else 1
    from rich.text import Text

    print_grid((Text(*MARKS[k.state]), k.name, Text(printable(k.detail), overflow="fold")) for k in links)
    result = "matches its receipt" if is_whole else "does not match its receipt"
    console().print(f"\n[bold]Version {version} {result}.[/]")
    return 0 if is_whole else 1


def config(
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of params.yaml, for editors.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Check params.yaml, and print all settings."""
    if schema:
        from flows.settings_reference import json_schema

        print_json(json_schema())
        return 0
    settings = enter_project().model_dump(mode="json", by_alias=True)
    if as_json:
        print_json(settings)
        return 0
    import sys

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.dump(settings, sys.stdout)
    return 0


def doctor(as_json: Json = False) -> int:
    """Check Python, torch, GPU, memory, disk, git, DVC, registry and base model. Each is ok, or has a fix."""
    enter_root()
    from flows.doctor.examine import examine

    findings = examine()
    is_ok = all(finding.state != "wrong" for finding in findings)
    if as_json:
        print_json({"ok": is_ok, "findings": [finding.as_dict() for finding in findings]})
        return 0 if is_ok else 1
    from rich.text import Text

    rows = []
    for finding in findings:
        text = Text(printable(finding.text))
        if finding.fix:
            text.append(f"\n→ {printable(finding.fix)}", style="bold")
        rows.append((Text(finding.state, FINDING_STYLES[finding.state]), finding.name, text))
    print_grid(rows)
    return 0 if is_ok else 1
