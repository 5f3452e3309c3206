"""compare: two versions row by row, with the parameters and data that differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from flows.cli.common import VERSION, Json, as_text, console, enter_project, print_json

Show = Literal["won", "lost", "changed", "same"]


def compare(
    first: Annotated[str, typer.Argument(metavar="V1", callback=as_text, help=VERSION)],
    second: Annotated[str, typer.Argument(metavar="V2", callback=as_text, help=VERSION)],
    where: Annotated[
        str,
        typer.Option(
            "--slice",
            metavar="EXPR",
            callback=as_text,
            help="Only rows that fulfil a condition over the columns of the predictions: \"language == 'zh'\".",
        ),
    ] = "",
    family: Annotated[str, typer.Option(callback=as_text, help="Only rows of this family.")] = "",
    show: Annotated[Show | None, typer.Option(help="Print only answers with this outcome of V2.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Print at most this many answers.")] = 10,
    as_json: Json = False,
) -> None:
    """Compare two versions on the same test rows: won, lost and changed answers, and the parameters and data that differ.

    Test sets that differ are compared on the rows that both have. The intervals describe these rows; only the gate decides.
    """
    config = enter_project()
    from tasks.lineage.compare import compare as compare_versions

    comparison = compare_versions(config, first, second, where=where, family=family, show=show, limit=limit)
    if as_json:
        print_json(_as_dict(asdict(comparison)))
        return
    from flows.report.comparison import comparison_page

    console().print(comparison_page(comparison, show=show))


def _as_dict(facts: dict[str, Any]) -> dict[str, Any]:
    """Without examples of rows, which `strop data diff --json` has."""
    data = facts["data"]
    if data is not None:
        kinds = ("added", "removed", "edited", "moved")
        rows = {kind: data[kind]["rows"] for kind in kinds}
        facts["data"] = {name: data[name] for name in ("before", "after", "batches_added", "batches_removed")} | rows
    return facts
