"""Which versions `strop gc` may retire: whatever the ledger and the references, never one that anything needs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.model_store.canaries import CanaryPlan
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_entries import (
    Entry,
    aliases_of,
    budget_of,
    champion_of,
    champions_of,
    may_retire,
    open_canary,
    rejected_versions,
    retired_versions,
)
from tasks.model_store.ledger_rules import order_findings
from tasks.promote.candidates import undecided
from tasks.retention import stage
from tasks.retention.needed import Uses, needed_versions, removable_versions
from tasks.retention.objects import removable_objects
from tasks.retention.plan import Plan, Removal
from tasks.state.erasures import Erasure

WEIGHTS = ("a", "b", "c", "d")


def entry(kind: str, version: int, weights: str = "a", passed: bool = False) -> Entry:
    fields: dict[str, Any] = {"receipt": f"r{version}", "commit": f"c{version}", "verdict": "v", "dataset": "d"}
    return Entry(
        kind=kind,  # type: ignore[arg-type]
        version=version, weights_digest=weights, passed=passed, test_epoch=1, test_rows=9, who="ada", when="", why="", **fields,
    )  # fmt: skip


def waiting_versions(entries: list[Entry]) -> list[int]:
    """The versions that passed and that nobody has decided about."""
    return [candidate.version for candidate in undecided(entries, None, datetime.now(UTC))]


@st.composite
def ledgers(draw: st.DrawFn) -> list[Entry]:
    """A ledger as its commands write it: verdicts, canaries, promotions (of refused versions too), rollbacks, rejections,
    retirements."""
    entries: list[Entry] = []
    versions: list[Entry] = []
    for action in draw(
        st.lists(st.sampled_from(["judge"] * 4 + ["promote", "roll back", "reject", "retire", "canary"]), max_size=14)
    ):
        champions = champions_of(entries)
        serving = champions[-1].version if champions else None
        if action == "judge":
            versions.append(entry("judged", len(versions) + 1, draw(st.sampled_from(WEIGHTS)), draw(st.booleans())))
            entries.append(versions[-1])
        elif action == "roll back" and len(champions) > 1:
            entries.append(with_kind(champions[-2], "rolled_back"))
        elif versions and action != "roll back":
            chosen = draw(st.sampled_from(versions))
            running = open_canary(entries)
            if action == "canary" and running is not None:
                ending = draw(st.sampled_from(["stopped", "taken_back"]))
                entries.append(replace(entries[running], kind="canary_ended", details=f'{{"decision": "{ending}"}}'))
            elif action == "canary" and serving and chosen.passed and may_serve(entries, chosen.version, serving):
                entries.append(replace(chosen, kind="canary", details=CanaryPlan(serving, 0.1).text))
            elif action == "retire" and may_retire(entries, chosen.version):
                entries.append(with_kind(chosen, "retired"))
            elif action == "promote" and chosen.version not in {serving, *retired_versions(entries)}:
                entries.append(with_kind(chosen, "promoted"))
            elif action == "reject" and chosen.version != serving:
                entries.append(with_kind(chosen, "rejected"))
    return entries


def may_serve(entries: list[Entry], version: int, serving: int) -> bool:
    return version not in {serving, *retired_versions(entries), *rejected_versions(entries)}


def with_kind(chosen: Entry, kind: str) -> Entry:
    return entry(kind, chosen.version, chosen.weights_digest, chosen.passed)


@st.composite
def uses_of(draw: st.DrawFn) -> Uses:
    numbers = st.integers(1, 8)
    return Uses(
        entries=tuple(draw(ledgers())),
        parents=draw(st.dictionaries(numbers, st.frozensets(st.sampled_from(WEIGHTS), max_size=2), max_size=3)),
        aliases=draw(st.dictionaries(numbers, st.just("staging"), max_size=2)),
        digests=draw(st.dictionaries(st.sampled_from(WEIGHTS), st.just("data/round.json"), max_size=1)),
        names=draw(st.dictionaries(numbers, st.just("params.yaml"), max_size=2)),
    )


def findings(entries: list[Entry]) -> list[str]:
    return [finding.what for finding in order_findings([ChainNode(f"{n:040x}", e) for n, e in enumerate(entries)])]


@settings(max_examples=100, deadline=None)
@given(uses_of(), st.integers(0, 3))
def test_nothing_that_is_needed_is_removed(uses: Uses, kept: int) -> None:
    entries = list(uses.entries)
    assert findings(entries) == []
    needed = needed_versions(uses, kept)
    removable = set(removable_versions(uses, needed))
    judged = {e.version: e for e in entries if e.kind == "judged"}

    served = {e.version for e in entries if e.enters_service}
    assert not removable & served, "champions, and all that history, a rollback or an audit of them needs"
    assert not removable & set(waiting_versions(entries))
    assert not removable & {v for v, e in judged.items() if e.passed and v not in rejected_versions(entries)}
    assert not removable & {*uses.aliases, *uses.names}
    assert not removable & {v for v, e in judged.items() if e.weights_digest in uses.digests}
    for version in set(judged) - removable:
        parents = {v for v, e in judged.items() if e.weights_digest in uses.parents.get(version, ())}
        assert not removable & parents, "a kept version can be trained again"
    refused = sorted((v for v in judged if may_retire(entries, v)), reverse=True)
    assert not removable & (set(refused[:kept]) - set(retired_versions(entries)))
    assert removable | set(needed) == set(judged)


@settings(max_examples=100, deadline=None)
@given(uses_of(), st.integers(0, 3))
def test_the_ledger_stays_consistent_and_nothing_else_follows_from_a_retirement(uses: Uses, kept: int) -> None:
    before = list(uses.entries)
    retired = set(removable_versions(uses, needed_versions(uses, kept))) - set(retired_versions(before))
    after = [*before, *(with_kind(e, "retired") for e in before if e.kind == "judged" and e.version in retired)]
    assert findings(after) == []
    assert champion_of(after) == champion_of(before)
    assert champions_of(after) == champions_of(before)
    assert budget_of(after) == budget_of(before), "no look is given back"
    assert waiting_versions(after) == waiting_versions(before)
    assert rejected_versions(after) == rejected_versions(before)
    again = Uses(tuple(after), uses.parents, uses.aliases, uses.digests, uses.names)
    assert removable_versions(again, needed_versions(again, kept)) == sorted(retired | set(retired_versions(before)) & set(
        removable_versions(uses, needed_versions(uses, kept))
    )), "a second gc finds the same"  # fmt: skip


def test_every_kept_version_has_a_reason() -> None:
    entries = [
        entry("judged", 1, "a", passed=True), entry("promoted", 1, "a", passed=True), entry("judged", 2, "b"),
        entry("judged", 3, "c"), entry("judged", 4, "d"), entry("judged", 5, "e"), entry("judged", 6, "f"), entry("judged", 7, "g"),
    ]  # fmt: skip
    uses = Uses(
        entries,
        parents={7: frozenset("b"), 2: frozenset("f")},
        aliases={3: "staging"},
        digests={"d": "data/start.json"},
    )
    assert needed_versions(uses, refused_candidates=1) == {
        1: "serves",
        2: "v7 was trained with it",
        3: "has the alias staging",
        4: "is named in data/start.json",
        6: "v2 was trained with it",
        7: "is one of the newest refused candidates",
    }
    assert removable_versions(uses, needed_versions(uses, 1)) == [5]
    assert aliases_of([*entries, entry("retired", 5)]) == {"champion": 1, "challenger": 7}


def test_the_ledger_refuses_a_retirement_of_a_version_that_is_needed_and_a_promotion_after_one() -> None:
    passed, served, refused = entry("judged", 1, passed=True), entry("judged", 2), entry("judged", 3)
    before = [passed, served, refused, with_kind(served, "promoted")]
    assert findings([*before, with_kind(refused, "retired")]) == []
    assert findings([*before, with_kind(passed, "rejected"), with_kind(passed, "retired")]) == []
    for version in (passed, served):
        (what,) = findings([*before, with_kind(version, "retired")])
        assert "retires a version that passed the gate, or has served" in what
    (what,) = findings([*before, with_kind(refused, "retired"), with_kind(refused, "promoted")])
    assert "puts a version into service that was retired" in what


MD5 = st.integers(0, 9).map(lambda number: f"{number:032x}")


@given(
    st.dictionaries(st.sampled_from(["model of v3", "model of v4"]), st.sets(MD5 | MD5.map(lambda md5: f"{md5}.dir"))),
    st.sets(MD5),
    st.lists(st.tuples(MD5, MD5), max_size=2),
)
def test_an_object_that_anything_names_stays(
    candidates: dict[str, set[str]], needed: set[str], erased: list[tuple[str, str]]
) -> None:
    erasures = [Erasure("data/raw/x", old, "", new, "", [], [], "ada", "", "") for old, new in erased]
    removed = removable_objects(candidates, needed, erasures)
    objects = [md5 for group in removed.values() for md5 in group]
    assert not set(objects) & (needed | {md5 for pair in erased for md5 in pair})
    assert len(objects) == len(set(objects)), "each once"
    assert not any(md5.endswith(".dir") for md5 in objects), "the names of the files stay"
    named = {md5 for group in candidates.values() for md5 in group if not md5.endswith(".dir")}
    assert named - set(objects) <= needed | {md5 for pair in erased for md5 in pair}


def test_a_logged_model_with_which_another_clone_registered_a_version_since_the_plan_stays() -> None:
    judged = entry("judged", 3)
    chain = (ChainNode("c1", judged), ChainNode("c2", with_kind(judged, "retired")))
    sources = {3: "models:/m-1", 4: "models:/m-1", 5: "models:/m-2"}
    removed: list[str] = []
    registry: Any = SimpleNamespace(
        versions=lambda: [SimpleNamespace(version=n, source=source, tags={}) for n, source in sources.items()],
        set_version_tags=lambda version, tags: None,
        remove_files=lambda source, is_used: False if is_used() else removed.append(source) is None,
    )
    removals = tuple(Removal("logged models", source, "", source=source) for source in ("models:/m-1", "models:/m-3"))
    stage._carry_out(registry, Plan(chain=chain, removals=removals), remote="")
    assert removed == ["models:/m-3"]
