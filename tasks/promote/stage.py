"""Promotes, rolls back, and makes the alias follow: compare-and-swap on the ledger first, the registry's alias then.

    promote(config, 3, why="passed the gate", expected_champion=2)
    rollback(config, why="complaints about sport", expected_champion=3)
    reconcile(config)          # after a crash between the two, or an alias moved by hand

The round on disk is not touched, so nothing retrains or is judged anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import RegistryError
from tasks.model_store.ledger import (
    Entry,
    LedgerMoved,
    append_entry,
    champion_of,
    champions_of,
    judged,
    note_mirrored,
    now,
    who,
)
from tasks.model_store.ledger_chain import Recorded
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_witnesses import registry_findings
from tasks.model_store.versions import commit_of, receipt_at, tag_name
from tasks.tracking.model_versions import LEDGER_TAG, RECEIPT_TAG, anchors_of
from tasks.tracking.registry import Registry, open_registry
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

ATTEMPTS = 20
"""So often is the alias set before somebody else is held to fight over it."""


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
    entries = [recorded.entry for recorded in _read_anchored(registry)]
    champion = champion_of(entries)
    if champion is not None and champion.version == version:
        reconcile(config)
        return champion
    serving = champion.version if champion else None
    _require_expected(model, serving, expected_champion, "Look (strop history), then judge again: strop run --rejudge")
    entry = judged(entries, version)
    if entry is None:
        raise RegistryError(f"{model} v{version} was never judged by the gate", fix="See: strop history")
    if not force:
        _require_fair(model, entry, serving)
    _require_reason(why, force)
    registry.require_writable(version)
    made = replace(entry, kind="promoted", who=who(), when=now(), why=why)
    _tag(model, version)
    append_entry(model, made, expected_length=len(entries))
    reconcile(config)
    print(f"promote: {model} v{version} is now champion, in place of {_named(serving)}", flush=True)
    return made


def rollback(config: PipelineConfig, why: str, expected_champion: int | None) -> Entry:
    """Puts the champion before the present one back into service, if `expected_champion` serves now: of several at once, one
    goes back one step.

    Raises:
        LedgerMoved: another version serves than was expected.
        RegistryError: there was none before.
    """
    model = config.register_.model_name
    registry = open_registry(config)
    entries = [recorded.entry for recorded in _read_anchored(registry)]
    reigns = champions_of(entries)
    serving = reigns[-1].version if reigns else None
    _require_expected(model, serving, expected_champion, "Look (strop history), then roll back again if that is meant")
    if len(reigns) < 2:
        told = f"{model} v{serving} is the first champion" if reigns else f"no version of {model} serves"
        raise RegistryError(f"{told}: there is none to go back to", fix="See: strop history")
    registry.require_writable(reigns[-2].version)
    made = replace(reigns[-2], kind="rolled_back", who=who(), when=now(), why=why)
    append_entry(model, made, expected_length=len(entries))
    reconcile(config)
    print(f"rollback: {model} v{made.version} serves again, in place of {_named(serving)}", flush=True)
    return made


def reconcile(config: PipelineConfig) -> int | None:
    """Sets the alias `champion` to what the ledger says, and returns that version (None: nothing serves).

    The ledger is read again after the alias is set, until both agree: a promotion in between is not undone. Processes of
    this machine wait for each other. Killed at any moment and called again, it does the rest.

    Raises:
        RegistryError: the registry has no such version, or somebody else moves the alias all the time.
    """
    from filelock import FileLock

    model = config.register_.model_name
    registry = open_registry(config)
    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.LOCKS / "alias.lock"):
        for _ in range(ATTEMPTS):
            chain = read_verified(model)
            champion = _champion(chain)
            _set_alias(registry, champion)
            again = _champion(read_verified(model))
            version = champion.entry.version if champion else None
            if again != champion:
                continue
            if version is None:
                return None
            if registry.alias("champion") == version:
                note_mirrored(model, version)
                return version
    raise RegistryError(
        "the alias `champion` is moved by somebody else all the time",
        where=model,
        fix="Nothing but Strop should set it: find out who does, then: strop run",
    )


def _set_alias(registry: Registry, champion: Recorded | None) -> None:
    if champion is None:
        return  # an alias that is set all the same may be of a ledger that was not fetched
    version = champion.entry.version
    known = {each.version: each for each in registry.versions()}
    if version not in known:
        what = (
            f"has no version {version} of {registry.model} any more, which serves by the ledger: it was deleted there"
        )
        raise RegistryError(what, where="the registry", fix="Make it again: strop registry rebuild")
    if registry.alias("champion") != version:
        registry.set_alias("champion", version)
    if registry.alias("challenger") == version:  # it won
        registry.remove_alias("challenger")
    if known[version].tags.get(LEDGER_TAG) != champion.commit:
        registry.set_version_tags(version, {LEDGER_TAG: champion.commit})


def _champion(chain: list[Recorded]) -> Recorded | None:
    """The newest entry by which the model in service was put there."""
    champion = champion_of([recorded.entry for recorded in chain])
    return next((recorded for recorded in reversed(chain) if recorded.entry is champion), None)


def _read_anchored(registry: Registry) -> list[Recorded]:
    """The ledger, in which every entry is that the registry names.

    Raises:
        LedgerBroken: it does not follow.
    """
    versions = registry.versions()  # before the ledger: its tags are set after an entry is appended
    registered = [version.version for version in versions if RECEIPT_TAG in version.tags]
    anchors = {version.version: anchors_of(version) for version in versions}
    return read_verified(registry.model, lambda chain: registry_findings(registry.model, chain, registered, anchors))


def _require_expected(model: str, serving: int | None, expected: int | None, fix: str) -> None:
    if serving != expected:
        raise LedgerMoved(f"{_named(serving)} serves, not {_named(expected)}: somebody was first", where=model, fix=fix)


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
