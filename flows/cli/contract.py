"""contract: the rules for rows; suggests a first contract from the collected data."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.common import Json, enter_root, print_json
from tasks.errors import ConfigError, DataError
from tasks.runtime.visible_text import printable
from tasks.state.manifest import Batch

logger = logging.getLogger(__name__)

app = typer.Typer(help="The contract: the rules for rows, in data/contract/.", no_args_is_help=True)


@app.callback()
def contract() -> None:
    """Makes `suggest` a subcommand."""


@app.command()
def suggest(
    source: Annotated[str | None, typer.Option(help="Only the data of this source.")] = None,
    family: Annotated[str | None, typer.Option(help="Only the data of this family.")] = None,
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it to a new file.")] = None,
    as_json: Json = False,
) -> int:
    """Profile the collected data, and write a first contract for you to edit."""
    root = enter_root()
    from tasks.validate.suggest_contract import profile_batches, write_contract

    if write is not None and (root / write).exists():
        raise ConfigError("exists already, and is not overwritten", where=str(write), fix="Choose another file")
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
        print(printable(text), end="")
    _report(refused, write)
    return 0


def _batches(source: str | None, family: str | None) -> list[Batch]:
    """The selected batches, without excluded ones."""
    from tasks.records.parse import check_raw
    from tasks.state.decisions import excluded_batches, read_decisions
    from tasks.state.manifest import read_manifest
    from tasks.validate.chunks import family_of

    excluded = excluded_batches(read_decisions())
    collected = [batch for batch in read_manifest() if batch.batch not in excluded]
    chosen = [batch for batch in collected if source is None or batch.source == source]
    for batch in chosen:
        check_raw(batch)
    chosen = [batch for batch in chosen if family is None or family_of(batch) == family]
    if not chosen:
        selection = [f"{what} {name}" for what, name in (("source", source), ("family", family)) if name]
        sources = ", ".join(sorted({batch.source for batch in collected})) or "none"
        fix = f"Sources with data: {sources}" if collected else "Collect some: strop run, or python -m tasks ingest"
        raise DataError(f"no data of {' and '.join(selection)}" if selection else "no data were collected", fix=fix)
    return chosen


def _refused(text: str, batches: list[Batch]) -> dict[str, Any]:
    """Family → what the suggested contract would refuse of its own data."""
    import tempfile

    from tasks.validate.load_contract import load_contract
    from tasks.validate.suggest_contract import refused_by

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suggested.yaml"
        path.write_text(text, encoding="utf-8")
        families = load_contract(path).families
    counts = {}
    for name, bounds in families.items():
        rows, refused, reasons = refused_by(bounds, name, batches)
        counts[name] = {"records": rows, "refused": refused, "reasons": reasons}
    return counts


def _report(refused: dict[str, Any], write: Path | None) -> None:
    """Logs it: standard output is only the contract."""
    for name, counts in refused.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts["reasons"].items()))
        detail = f" ({reasons})" if reasons else ""
        logger.info(f"{name}: would refuse {counts['refused']:,} of {counts['records']:,} records{detail}")
    if write is not None:
        logger.info(f"Written to {write}. Review it, and tighten its limits.")
