"""status, history, config and doctor: read-only commands."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from flows.cli.common import Json, console, enter_project, enter_root, print_grid, print_json
from tasks.runtime.visible_text import printable

logger = logging.getLogger(__name__)

FINDING_STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def status(as_json: Json = False) -> None:
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
        return
    from flows.report.terminal import summary_page

    console().print(summary_page(summary))
    for line in state.lines():
        console().print(line)


def history(as_json: Json = False) -> None:
    """All versions: judged, tried as a canary, promoted, rolled back, rejected, retired, by whom and why; and which served when."""
    settings = enter_project()
    from tasks.model_store.ledger_entries import served_until
    from tasks.model_store.ledger_remote import follow_if_possible
    from tasks.model_store.serving import read_serving

    model = settings.register_.model_name
    follow_if_possible(model, settings.register_.ledger_remote)
    serving = read_serving(settings)
    entries = serving.entries
    if serving.problem:
        logger.warning(serving.problem)
    forgotten = _forgotten(model)
    if as_json:
        print_json(
            [
                {**asdict(entry), "served_until": until, "forgotten_rows": forgotten.get(entry.version, 0)}
                for entry, until in zip(entries, served_until(entries), strict=True)
            ]
        )
        return
    if not entries:
        console().print("No version yet. Create one: [bold]strop run[/]")
        return
    console().print(_history_table(entries, serving.champion.version if serving.champion else None))
    for version, rows in sorted(forgotten.items()):
        console().print(f"v{version} was trained on {rows:,} rows that were forgotten later")


def _forgotten(model: str) -> dict[int, int]:
    """Version → the number of its training rows that were forgotten later."""
    from tasks.state.decisions import read_decisions

    rows = {decision.which for decision in read_decisions() if decision.what == "forget"}
    if not rows:
        return {}
    from collections import Counter

    from tasks.lineage.row_history import IN_WEIGHTS, versions_with

    versions = (item for splits in versions_with(rows, model).values() for item in splits.items())
    return dict(Counter(version for version, split in versions if split in IN_WEIGHTS))


CANARY_STYLES = {"canary": "cyan", "canary_ended": "cyan"}
GATE_STYLES = {"passed": "green", "inconclusive": "yellow"}


def _history_table(entries: list[Any], champion: int | None) -> Any:
    from rich.table import Column
    from rich.text import Text

    from tasks.model_store.ledger_entries import served_until
    from tasks.runtime.console import table_of

    names = ("version", "what", "when (UTC)", "served until", "gate", "dataset", "weights", "who")
    columns = (Column(name, overflow="ellipsis", no_wrap=True) for name in names)
    table = table_of(*columns, Column("why", overflow="fold"))
    styles = {
        "promoted": "green",
        "rolled_back": "yellow",
        "rejected": "red",
        "retired": "dim",
        "judged": "",
        **CANARY_STYLES,
    }
    for entry, until in zip(entries, served_until(entries), strict=True):
        serves = " ●" if entry.version == champion and entry.enters_service and until is None else ""
        gate = f"[{GATE_STYLES.get(entry.gate, 'red')}]{entry.gate}[/]"
        what = f"[{styles[entry.kind] or 'none'}]{entry.what}[/]"
        times = (moment.replace("T", " ")[:19] for moment in (entry.when, until or ""))
        cells = (f"v{entry.version}{serves}", what, *times, gate, entry.dataset[:8], entry.weights_digest[:8])
        table.add_row(*cells, Text(printable(entry.who)), Text(printable(entry.why)))
    return table


def config(
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of params.yaml, for editors.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check params.yaml, and print all settings."""
    if schema:
        from flows.settings_reference import json_schema

        print_json(json_schema())
        return
    settings = enter_project().model_dump(mode="json", by_alias=True)
    if as_json:
        print_json(settings)
        return
    import sys

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.dump(settings, sys.stdout)


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
