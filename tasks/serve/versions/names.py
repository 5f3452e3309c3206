"""Names of versions in requests → entries of the ledger. Pure.

entry = entry_named("strop-model@v3", "strop-model", entries)

A number is never given to other weights: `@v3` means the same model for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.model_store.ledger_entries import (
    Entry,
    aliases_of,
    champion_of,
    judgement_of,
    rejected_versions,
    retired_versions,
)
from tasks.serve.errors import ApiError

CHALLENGER = "challenger"
_NUMBER = re.compile(r"v([1-9]\d{0,8})")


def entry_named(name: str, model: str, entries: list[Entry], *, allow_unpromoted: bool = False) -> Entry:
    """The entry of the version that a request names; "": the champion.

    Raises:
        ApiError: 404, there is no such version; 403, it may not serve; 410, its files were removed; 503, none serves.
    """
    own, at, version = name.partition("@")
    if name and own != model:
        raise _unknown(name, model)
    if not at:
        champion = champion_of(entries)
        if champion is None:
            raise ApiError(503, "no_champion", f"No version of {model} was promoted yet.", "model", retry_after=60)
        return champion
    if version == CHALLENGER:
        number = aliases_of(entries)[CHALLENGER]
        if number is None:
            raise ApiError(404, "no_challenger", f"{model} has no challenger now.", "model")
    elif match := _NUMBER.fullmatch(version):
        number = int(match[1])
    else:
        raise _unknown(name, model)
    entry = judgement_of(entries, number)
    if entry is None:
        raise _unknown(name, model)
    require_servable(entry, model, entries, allow_unpromoted)
    return entry


def require_servable(entry: Entry, model: str, entries: list[Entry], allow_unpromoted: bool) -> None:
    """Raises ApiError for a version that was retired, or that did not pass the gate, or was rejected, and never served."""
    name = version_name(model, entry.version)
    if entry.version in retired_versions(entries):
        raise ApiError(410, "version_retired", f"{name} was retired: its files were removed by `strop gc`.", "model")
    has_served = any(each.enters_service and each.version == entry.version for each in entries)
    if allow_unpromoted or has_served or (entry.passed and entry.version not in rejected_versions(entries)):
        return
    why = f"was {entry.gate} by the gate" if not entry.passed else "was rejected by a person"
    raise ApiError(403, "version_not_promoted", f"{name} {why}, and never served.", "model")


def servable_names(model: str, entries: list[Entry], *, allow_unpromoted: bool) -> Iterator[tuple[str, Entry]]:
    """(name, entry) of what requests may name: the champion and the challenger first, then versions, the newest first."""
    names = [model, f"{model}@{CHALLENGER}"]
    numbers = sorted({entry.version for entry in entries if entry.kind == "judged"}, reverse=True)
    for name in [*names, *(version_name(model, number) for number in numbers)]:
        try:
            yield name, entry_named(name, model, entries, allow_unpromoted=allow_unpromoted)
        except ApiError:
            continue


def challenger_of(entries: list[Entry]) -> Entry | None:
    """The challenger, for answers that nobody sees: also an inconclusive one, not a refused one."""
    number = aliases_of(entries)[CHALLENGER]
    entry = judgement_of(entries, number) if number else None
    return entry if entry is not None and entry.gate != "refused" else None


def version_name(model: str, version: int) -> str:
    return f"{model}@v{version}"


def _unknown(name: str, model: str) -> ApiError:
    shown = name if len(name) <= 100 else f"{name[:99]}…"
    known = f"{model} (the champion), {model}@v1, …, {model}@{CHALLENGER}; see /v1/models"
    return ApiError(404, "model_not_found", f"There is no model {shown!r}. There are {known}.", "model")
