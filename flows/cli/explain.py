"""explain: which parts of an input the output of a version depends on."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import VERSION, Json, as_text, console, enter_project, print_json


def explain(
    row: Annotated[str, typer.Argument(callback=as_text, help="The row's id, or its first characters.")] = "",
    version: Annotated[str, typer.Option(metavar="V", callback=as_text, help=VERSION)] = "champion",
    prompt: Annotated[
        str, typer.Option(callback=as_text, help="Explain this text instead of a row; - reads it from standard input.")
    ] = "",
    label: Annotated[
        str | None, typer.Option(callback=as_text, help="Explain this label too; only for a classifier.")
    ] = None,
    passes: Annotated[
        int, typer.Option(min=1, help="Parts of the input that are removed, at most; each takes a forward pass.")
    ] = 100,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page (.html). Default: data/reports/explain/<version>/<row>.html."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which words of a row, or of a prompt, the output of a version depends on: a page and a picture.

    A classifier or reward model is explained by integrated gradients, a generated answer by removing parts of the input. The files
    have text of the row; `strop rows forget --erase` removes those in the default folder.
    """
    if row and prompt:
        raise typer.BadParameter("Give a row or --prompt, not both.")
    if not row and not prompt.strip():
        raise typer.BadParameter("Give the id of a row, or a text by --prompt.")
    if out is not None and out.suffix != ".html":
        raise typer.BadParameter("--out must end in .html; the picture has the same name and ends in .svg.")
    page = out.resolve() if out is not None else None  # before the working directory changes
    config = enter_project()
    text = as_text(sys.stdin.read()) if prompt == "-" else prompt
    if not row and not text.strip():
        raise typer.BadParameter("The prompt is empty.")
    from flows.explain.make import explain as make
    from flows.explain.subject import of_prompt, of_row

    subject = of_row(row) if row else of_prompt(text)
    explanation, path = make(config, subject, version, passes=passes, label=label, out=page)
    if as_json:
        print_json({**asdict(explanation), "page": str(path), "picture": str(path.with_suffix(".svg"))})
        return
    from flows.report.explanation.terminal import explanation_page

    console().print(explanation_page(explanation))
    console().print(f"\nPage: {path}\nPicture: {path.with_suffix('.svg')}")
