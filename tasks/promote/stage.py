"""Promotes, rolls back, and makes the alias follow: compare-and-swap on the ledger first, the registry's alias then.

    promote(config, 3, why="passed the gate", expected_champion=2)
    rollback(config, why="complaints about sport")
    reconcile(config)          # after a crash between the two, or an alias moved by hand

The round on disk is not touched, so nothing retrains or is judged anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks import git
from tasks.errors import RegistryError
from tasks.ledger import (
    Entry,
    LedgerMoved,
    append_entry,
    champion_of,
    champions_of,
    judged,
    note_mirrored,
    now,
    read_ledger,
    who,
)
from tasks.tracking.registry import open_registry
from tasks.versions import commit_of, receipt_at, tag_name

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def promote(
    config: PipelineConfig, version: int, why: str, expected_champion: int | None, force: bool = False
) -> Entry:
    """Puts a version into service, if `expected_champion` serves now. Done twice, it is done once.

    Args:
        force: also if the gate refused it, or it was judged against another champion; `why` is then on record.

    Raises:
        LedgerMoved: another version serves than was expected.
        RegistryError: there is no such version, it was refused, or it was judged against another champion.
    """
    model = config.register_.model_name
    registry = open_registry(config)  # before the ledger moves: an alias that cannot follow would leave them apart
    registry.version(version)
    entries = read_ledger(model)
    champion = champion_of(entries)
    if champion is not None and champion.version == version:
        reconcile(config)
        return champion
    serving = champion.version if champion else None
    if serving != expected_champion:
        raise LedgerMoved(
            f"{_named(serving)} serves, not {_named(expected_champion)}: somebody was first",
            where=model,
            fix="Look (strop history), then judge again: strop run --rejudge",
        )
    entry = judged(entries, version)
    if entry is None:
        raise RegistryError(f"{model} v{version} was never judged by the gate", fix="See: strop history")
    if not force:
        _require_fair(model, entry, serving)
    _require_reason(why, force)
    made = replace(entry, kind="promoted", who=who(), when=now(), why=why)
    _tag(model, version)
    append_entry(model, made, expected_length=len(entries))
    reconcile(config)
    print(f"promote: {model} v{version} is now champion, in place of {_named(serving)}", flush=True)
    return made


def rollback(config: PipelineConfig, why: str) -> Entry:
    """Puts the champion before the present one back into service.

    Raises:
        RegistryError: there was none before.
    """
    model = config.register_.model_name
    registry = open_registry(config)
    entries = read_ledger(model)
    reigns = champions_of(entries)
    if len(reigns) < 2:
        told = f"{model} v{reigns[-1].version} is the first champion" if reigns else f"no version of {model} serves"
        raise RegistryError(f"{told}: there is none to go back to", fix="See: strop history")
    registry.version(reigns[-2].version)
    made = replace(reigns[-2], kind="rolled_back", who=who(), when=now(), why=why)
    append_entry(model, made, expected_length=len(entries))
    reconcile(config)
    print(f"rollback: {model} v{made.version} serves again, in place of v{reigns[-1].version}", flush=True)
    return made


def reconcile(config: PipelineConfig) -> int | None:
    """Sets the alias `champion` to what the ledger says, and returns that version (None: nothing serves)."""
    model = config.register_.model_name
    registry = open_registry(config)
    champion = champion_of(read_ledger(model))
    if champion is None:
        registry.remove_alias("champion")
        return None
    if registry.alias("champion") != champion.version:
        registry.set_alias("champion", champion.version)
    if registry.alias("challenger") == champion.version:  # it won
        registry.remove_alias("challenger")
    note_mirrored(model, champion.version)
    return champion.version


def serving(config: PipelineConfig) -> tuple[int | None, int | None]:
    """The champion by the ledger, and by the registry's alias. They differ where the alias was moved by hand."""
    champion = champion_of(read_ledger(config.register_.model_name))
    return champion.version if champion else None, open_registry(config).alias("champion")


def _require_fair(model: str, entry: Entry, serving: int | None) -> None:
    """The gate let it through, and against the model that serves now."""
    if not entry.passed:
        raise RegistryError(
            f"the gate refused {model} v{entry.version} ({entry.why})",
            fix=f"See why: strop history. To promote it all the same: strop promote {entry.version} --force --why REASON",
        )
    commit = commit_of(model, entry.version)
    receipt = receipt_at(commit) if commit else None
    against = receipt["verdict"].get("champion_version") if receipt else serving
    if against != serving:
        raise RegistryError(
            f"{model} v{entry.version} was judged against {_named(against)}, but {_named(serving)} serves",
            fix=f"Judge it again: strop run --rejudge; or strop promote {entry.version} --force --why REASON",
        )


def _require_reason(why: str, force: bool) -> None:
    if force and not why.strip():
        raise RegistryError(
            "to promote against the gate needs a reason, which stays on record", fix="Add: --why REASON"
        )


def _tag(model: str, version: int) -> None:
    """Every version that ever served has a tag, so that retention of refused candidates cannot take it."""
    if commit := commit_of(model, version):
        git.create_tag(tag_name(model, version), commit)


def _named(version: int | None) -> str:
    return f"v{version}" if version else "no version"
