"""contract: what a good row is; a first one is made from the data that are held."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import Json, console, enter_root, print_json
from tasks.errors import ConfigError, DataError
from tasks.runtime.visible_text import shown

if TYPE_CHECKING:
    from tasks.state.manifest import Batch

app = typer.Typer(help="The contract: what a good row is. It stands in data/contract/.", no_args_is_help=True)


@app.callback()
def contract() -> None:
    """So that `suggest` is a word of its own."""


@app.command()
def suggest(
    source: Annotated[str | None, typer.Option(help="Only the data of this source.")] = None,
    family: Annotated[str | None, typer.Option(help="Only the data of this family.")] = None,
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it to a new file.")] = None,
    as_json: Json = False,
) -> int:
    """Look at the data that are held, and write a first contract for a person to edit."""
    root = enter_root()
    from tasks.validate.suggest_contract import profile_batches, write_contract

    if write is not None and (root / write).exists():
        raise ConfigError("is there already, and is never written over", where=str(write), fix="Name another file")
    batches = _batches(source, family)
    profiles = profile_batches(batches)
    text = write_contract(profiles)
    refused = _refused(text, batches)
    if write is not None:
        from tasks.runtime.files import write_text

        write_text(root / write, text)
    if as_json:
        facts = {name: profile.as_dict() for name, profile in profiles.items()}
        print_json({"families": facts, "contract": text, "refused": refused, "file": str(write) if write else None})
        return 0
    if write is None:
        print(shown(text), end="")
    _tell(refused, write)
    return 0


def _batches(source: str | None, family: str | None) -> list[Batch]:
    """The batches that are asked for; those that people excluded are left out."""
    from tasks.records.parse import check_raw
    from tasks.state.decisions import excluded_batches, read_decisions
    from tasks.state.manifest import read_manifest
    from tasks.validate.chunks import family_of

    excluded = excluded_batches(read_decisions())
    held = [batch for batch in read_manifest() if batch.batch not in excluded]
    chosen = [batch for batch in held if source is None or batch.source == source]
    for batch in chosen:
        check_raw(batch)
    chosen = [batch for batch in chosen if family is None or family_of(batch) == family]
    if not chosen:
        asked = [f"{what} {name}" for what, name in (("source", source), ("family", family)) if name]
        there = ", ".join(sorted({batch.source for batch in held})) or "none"
        fix = f"There are data of: {there}" if held else "Collect some: strop run, or python -m tasks ingest"
        raise DataError(f"no data of {' and '.join(asked)} are held" if asked else "no data are held", fix=fix)
    return chosen


def _refused(text: str, batches: list[Batch]) -> dict[str, Any]:
    """What the contract would refuse of the data that it was made from, by family."""
    import tempfile

    from tasks.validate.load_contract import load_contract
    from tasks.validate.suggest_contract import refused_by

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suggested.yaml"
        path.write_text(text, encoding="utf-8")
        families = load_contract(path).families
    found = {}
    for name, bounds in families.items():
        rows, refused, reasons = refused_by(bounds, name, batches)
        found[name] = {"records": rows, "refused": refused, "reasons": reasons}
    return found


def _tell(refused: dict[str, Any], write: Path | None) -> None:
    """On standard error, so that standard output is the contract alone."""
    terminal = console(on_stderr=True)
    for name, found in refused.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(found["reasons"].items()))
        told = f" ({reasons})" if reasons else ""
        terminal.print(f"{name}: would refuse {found['refused']:,} of {found['records']:,} records{told}", markup=False)
    if write is not None:
        terminal.print(f"Written to {write}. Read it, and draw its bounds closer.", markup=False)
