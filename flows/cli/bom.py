"""bom: the bill of materials of a version."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import console, enter_project
from tasks.errors import AuditError


def bom(
    version: Annotated[int, typer.Argument(min=1, help="The version.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to this file, not to the terminal.")
    ] = None,
) -> int:
    """Print the ML-BOM of a version (CycloneDX, JSON): model, base, dataset, packages, metrics. From its receipt alone."""
    file = output.absolute() if output else None  # the project's root is the working directory from here
    settings = enter_project()
    from tasks.model_store.versions import commit_of, receipt_at
    from tasks.register.ml_bom import ml_bom
    from tasks.runtime.files import write_text

    model = settings.register_.model_name
    commit = commit_of(model, version)
    receipt = receipt_at(commit) if commit else None
    if receipt is None:
        fix = "See: strop history. Fetch its tag: git fetch origin --tags 'refs/strop/*:refs/strop/*'"
        raise AuditError(f"git has no receipt of version {version} of {model}", fix=fix)
    text = ml_bom(receipt, model)
    if file is None:
        sys.stdout.write(text)
        return 0
    write_text(file, text)
    console().print(f"{output}: the ML-BOM of version {version}", markup=False)
    return 0
