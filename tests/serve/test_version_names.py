"""Names of versions: the champion, the challenger, a number; and what is not served."""

from __future__ import annotations

import pytest

from tasks.model_store.ledger_entries import Entry, Kind
from tasks.serve.errors import ApiError
from tasks.serve.versions.names import entry_named, servable_names


def entry(kind: Kind, version: int, passed: bool = True) -> Entry:
    fields = (
        f"{version:064x}",
        f"{version:064x}",
        "0" * 64,
        "d" * 32,
        passed,
        1,
        4,
        "test",
        "2026-01-01T00:00:00+00:00",
        "",
    )
    return Entry(kind, version, *fields)


LEDGER = [
    *(entry("judged", 1), entry("promoted", 1), entry("judged", 2), entry("promoted", 2), entry("judged", 3, False)),
    *(
        entry("judged", 4, False),
        entry("retired", 4, False),
        entry("judged", 5),
        entry("rejected", 5),
        entry("judged", 6),
    ),
]


def refusal(name: str, entries: list[Entry] = LEDGER) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        entry_named(name, "模型", entries)
    return caught.value.status, caught.value.code


def test_a_name_is_the_champion_the_challenger_or_a_version() -> None:
    names = ("", "模型", "模型@challenger", "模型@v1", "模型@v2", "模型@v6")
    assert [entry_named(name, "模型", LEDGER).version for name in names] == [2, 2, 6, 1, 2, 6]


@pytest.mark.parametrize(
    "name", ["other", "other@v1", "模型@v7", "模型@v0", "模型@v01", "模型@7", "模型@", "模型@v1@v2", "模型@base"]
)
def test_an_unknown_name_is_not_found(name: str) -> None:
    assert refusal(name) == (404, "model_not_found")


def test_versions_that_were_refused_rejected_or_retired_are_not_served() -> None:
    assert refusal("模型@v3") == (403, "version_not_promoted")
    assert refusal("模型@v5") == (403, "version_not_promoted")
    assert refusal("模型@v4") == (410, "version_retired")
    assert refusal("模型@challenger", LEDGER[:4]) == (404, "no_challenger")
    assert refusal("模型@challenger", LEDGER[:5]) == (403, "version_not_promoted")
    assert refusal("模型", LEDGER[:1]) == (503, "no_champion")
    forced = [*LEDGER, entry("promoted", 3, False), entry("promoted", 6)]
    assert entry_named("模型@v3", "模型", forced).version == 3, "it has served"


def test_unpromoted_versions_are_served_by_setting_but_never_retired_ones() -> None:
    names = [name for name, _ in servable_names("模型", LEDGER, allow_unpromoted=True)]
    assert names == ["模型", "模型@challenger", "模型@v6", "模型@v5", "模型@v3", "模型@v2", "模型@v1"]
    names = [name for name, _ in servable_names("模型", LEDGER, allow_unpromoted=False)]
    assert names == ["模型", "模型@challenger", "模型@v6", "模型@v2", "模型@v1"]
