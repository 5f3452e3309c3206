"""audit: a version, a dataset or a row against what was recorded."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import (
    Json,
    as_text,
    console,
    enter_project,
    print_grid,
    print_json,
    readable_size,
)
from tasks import paths
from tasks.errors import DataError, StropError, one_line
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from tasks.audit.stage import AuditResult
    from tasks.audit.subject import Link
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

MARKS = {
    "ok": ("ok", "green"),
    "unrecorded": ("NOT RECORDED", "yellow"),
    "removed": ("REMOVED", "yellow"),
    "differs": ("DIFFERS", "bold red"),
}
"""Text and style for the state of an audit link."""


def audit(
    version: Annotated[int | None, typer.Argument(min=1, help="The version to check.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte again, also of files with unchanged size, times and inode.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Also run its stages again up to the training. Now: strop reproduce.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the result as a page to hand over.")
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(callback=as_text, metavar="ID", help="Check a row instead: where it came from, and which versions have it."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            callback=as_text, metavar="VERSION", help="Check a dataset alone: the start of its hash, or a version such as v3."
        ),
    ] = None,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Check a version against its receipt: ledger, rows, parameters, code, base, model, predictions, report, verdict, registry.

    Without --deep, files are not read again whose size, times and inode are unchanged since an audit read them; --deep reads every
    byte: use it in CI, and before a hand-over. The exit code is 1 if anything differs.
    """
    _require_one(version, row, dataset)
    if version is None and (rebuild or html):
        raise typer.BadParameter("--rebuild and --html belong to a version.")
    page = html.absolute() if html else None  # the project's root is the working directory from here
    settings = enter_project()
    from tasks.audit import stage

    if row is not None:
        return _audit_row(settings, row, deep, as_json)
    if dataset is not None:
        return _report(stage.audit_dataset(settings, dataset, deep=deep), as_json, is_dataset=True)
    assert version is not None
    result = stage.audit_version(settings, version, deep=deep)
    if rebuild:
        result.links.extend(_rebuild(settings, version))
    if page:
        from flows.report.audit_report.page import write_page

        write_page(result, page)
    return _report(result, as_json, page=page)


def _rebuild(settings: PipelineConfig, version: int) -> list[Link]:
    """What `strop reproduce --environment current` finds, up to the training: a link for each stage."""
    from tasks.audit.subject import link
    from tasks.reproduce.stage import Options, reproduce

    logger.warning(
        "`--rebuild` will be removed: use `strop reproduce VERSION`, which runs every stage and builds the environment"
    )
    stages = reproduce(settings, version, Options("current", until="finetune")).stages
    return [
        link(f"rebuilt {each.name}", [f"{o.path}: {o.detail}" for o in each.differences], "every output identical")
        for each in stages
    ]


def _require_one(version: int | None, row: str | None, dataset: str | None) -> None:
    if sum(value is not None for value in (version, row, dataset)) != 1:
        raise typer.BadParameter("Give a version, or --row ID, or --dataset VERSION.")


def _report(result: AuditResult, as_json: bool, *, is_dataset: bool = False, page: Path | None = None) -> int:
    """Prints the links and the result; returns the exit code."""
    if as_json:
        print_json(_as_json(result, is_dataset))
        return 0 if result.is_whole else 1
    _print_links(result.links)
    name = f"Dataset {result.receipt['dataset'][:12]}" if is_dataset else f"Version {result.version}"
    verdict = "matches its receipt" if result.is_whole else "does not match its receipt"
    walk = (
        f"Every byte was read: {readable_size(result.read_bytes)} in {result.seconds:.1f} s." if result.is_deep else ""
    )
    console().print(f"\n[bold]{name} {verdict}.[/] {walk}".rstrip())
    if page:
        console().print(f"Report: {printable(str(page))}", markup=False)
    return 0 if result.is_whole else 1


def _as_json(result: AuditResult, is_dataset: bool) -> dict[str, Any]:
    """The links, and the whole ledger with its entries' commits."""
    history = [{**asdict(node.entry), "entry": node.commit} for node in result.chain]
    subject = {"dataset": result.receipt["dataset"]} if is_dataset else {}
    return {
        "version": result.version,
        **subject,
        "ok": result.is_whole,
        "deep": result.is_deep,
        "read_bytes": result.read_bytes,
        "seconds": round(result.seconds, 3),
        "links": _links_as_json(result.links),
        "ledger": history,
    }


def _audit_row(settings: PipelineConfig, row: str, deep: bool, as_json: bool) -> int:
    from flows.cli.row_history import print_history, print_uses, versions_by_use
    from tasks.audit.batches import check_batches
    from tasks.lineage.row_history import row_history

    try:
        history = row_history(row, settings.register_.model_name)
    except StropError:
        raise
    except (OSError, ValueError) as error:  # of pyarrow
        fix = "See which: strop audit --dataset VERSION. Restore it: dvc checkout --force data/raw.dvc"
        raise DataError(f"a raw batch cannot be read ({one_line(error)})", where=str(paths.RAW), fix=fix) from error
    links = check_batches([copy.batch for copy in history.copies], deep=deep)
    is_whole = all(link.ok for link in links)
    if as_json:
        print_json(
            {**asdict(history), "uses": versions_by_use(history), "ok": is_whole, "links": _links_as_json(links)}
        )
        return 0 if is_whole else 1
    print_history(history)
    print_uses(history)
    console().print()
    _print_links(links)
    return 0 if is_whole else 1


def _links_as_json(links: list[Link]) -> list[dict[str, Any]]:
    return [{**asdict(link), "state": link.state} for link in links]


def _print_links(links: list[Link]) -> None:
    from rich.text import Text

    print_grid((Text(*MARKS[k.state]), k.name, Text(printable(k.detail), overflow="fold")) for k in links)
