"""Ingested data → a first contract with statistics as comments, for a person to edit. Run: `strop contract suggest`.

Its bounds are wide: of the data it is made from, it refuses damaged rows and about one row in hundreds. A person tightens them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from tasks.records.parse import to_rows
from tasks.state.manifest import Batch
from tasks.validate.chunks import family_of, read_chunks
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.judge import check_rules, decide, merge_chunks
from tasks.validate.profile import SCRIPTS, Profile

MAX_RECORDS = 200_000
"""Records read per family; more would not change the bounds."""
RARE = 0.005
"""The share of rows that a bound may exclude."""


def profile_batches(batches: Iterable[Batch]) -> dict[str, Profile]:
    """Family → the statistics of its rows."""
    profiles: dict[str, Profile] = {}
    for batch in batches:
        for first, chunk in read_chunks(batch):
            family = str(chunk["family"][0].as_py())
            profile = profiles.setdefault(family, Profile(family))
            if profile.records < MAX_RECORDS:
                profile.add(to_rows(chunk, batch, range(first, first + chunk.num_rows)))
    return dict(sorted(profiles.items()))


def refused_by(contract: FamilyContract, family: str, batches: Iterable[Batch]) -> tuple[int, int, dict[str, int]]:
    """The family's records: how many there are, how many the contract refuses, and reason → how many."""
    rows = refused = 0
    reasons: dict[str, int] = {}
    for batch in batches:
        if family_of(batch) != family or rows >= MAX_RECORDS:
            continue
        chunks = [check_rules(to_rows(chunk, batch), contract) for _, chunk in read_chunks(batch)]
        facts = decide(merge_chunks(chunks, contract), contract, 1.0).facts
        rows, refused = rows + facts.rows, refused + sum(facts.reasons.values())
        for reason, count in facts.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return rows, refused, reasons


def write_contract(profiles: dict[str, Profile]) -> str:
    """The contract as YAML with comments."""
    lines = [
        "# A first contract, made by `strop contract suggest` from the ingested data. Edit it: the bounds are wide, and the",
        "# comments show the statistics. Lengths are in segments (a word, or one Chinese character) unless stated otherwise.",
        "# A family may be in one file of data/contract/ only: remove it from the others before you add this file.",
        "families:",
    ]
    for profile in profiles.values():
        lines += [f"  {_quoted(profile.family)}:", *(f"    {line}" for line in _family(profile))]
    return "\n".join(lines) + "\n"


def _family(profile: Profile) -> list[str]:
    sources = ", ".join(f"{name} {count:,}" for name, count in profile.sources.most_common(10))
    lines = [f"# {profile.records:,} records of {sources}; {profile.rows:,} are rows"]
    for code, count in profile.problems.most_common():
        lines.append(f"# {count:,} are not: {code}")
    if not profile.rows:
        return [*lines, "{}"]
    lines += _fields(profile)
    for part in ("input", "output"):
        lines += _lengths(profile, part)
    return [*lines, *_languages(profile), *_labels(profile), *_damage(profile), *_patterns(profile)]


def _fields(profile: Profile) -> list[str]:
    names = ("system", "instruction", "input")
    required = [name for name in names if profile.blank[name] <= 0.001 * profile.rows]
    blank = ", ".join(f"{name} {_share(profile.blank[name], profile.rows)}" for name in (*names, "output"))
    return [f"# blank: {blank}", f"required_fields: [{', '.join(required)}]"]


def _lengths(profile: Profile, part: str) -> list[str]:
    """A part's bounds in segments, and those in characters as a comment."""
    segments, characters = profile.quantiles(f"{part}_segments"), profile.quantiles(f"{part}_characters")
    return [
        f"# {part}: {', '.join(f'{name} {value:,}' for name, value in segments.items())}",
        f"min_{part}_segments: {_least(segments)}",
        f"max_{part}_segments: {_most(segments)}",
        f"# in characters: {', '.join(f'{name} {value:,}' for name, value in characters.items())}",
        f"# max_{part}_characters: {_most(characters)}",
    ]


def _least(lengths: dict[str, int]) -> int:
    """A lower bound with a margin: half of the 0.1 % quantile, or 1 where that is below 3."""
    least = lengths["p0.1"] // 2
    return least if least >= 3 else min(lengths["p0.1"], 1)


def _most(lengths: dict[str, int]) -> int:
    """An upper bound with a margin: 1.5 times the 99.9 % quantile, rounded up to two digits."""
    most = max(lengths["p99.9"] * 3 // 2, 4)
    step: int = 10 ** max(len(str(most)) - 2, 0)
    return -(-most // step) * step


def _languages(profile: Profile) -> list[str]:
    shares = ", ".join(f"{code} {_share(count, profile.rows)}" for code, count in profile.languages.most_common())
    common = sorted(code for code, count in profile.languages.items() if count > RARE * profile.rows)
    off = f"# in another script than their language's: {_share(profile.off_script, profile.rows)} of the rows"
    scripts = [
        f"{code}: {{script: {script.script}, min_share: {script.min_share}}}"
        for code, script in SCRIPTS.items()
        if code in common
    ]
    is_sound = profile.off_script <= RARE * profile.rows and scripts
    return [
        f"# languages: {shares}",
        f"languages: [{', '.join(common)}]",
        off,
        *(["scripts:", *(f"  {line}" for line in scripts)] if is_sound else []),
    ]


def _labels(profile: Profile) -> list[str]:
    labels = profile.label_set()
    if labels is None:
        return []
    lines = [f"# {len(labels)} outputs are repeated; a rare one may be a mistake", "labels:"]
    return lines + [f"  - {_quoted(label)} # {count:,}" for label, count in labels.items()]


def _damage(profile: Profile) -> list[str]:
    lines = []
    if profile.damaged:
        lines = [
            f"# {_share(profile.damaged, profile.rows)} of the rows are damaged (wrongly decoded or lost characters), and refused"
        ]
    if profile.own_ids:
        lines += [f"# {_share(profile.own_ids, profile.rows)} of the rows have an id of the source", "unique_id: true"]
    return lines


def _patterns(profile: Profile) -> list[str]:
    """Rules for a common prefix or suffix, commented out: a person decides whether it is required or noise."""
    lines = []
    for name in profile.samples:
        for what, text in profile.affixes(name).items():
            pattern = f"^{re.escape(text)}" if what == "begins" else rf"{re.escape(text)}\s*$"
            rule = f"{{name: {name}_{what}, field: {name}, must_match: {_quoted(pattern)}}}"
            lines += [f"# nearly every {name} {what} with {_quoted(text)}. If it should: rules: [{rule}]"]
    return lines


def _share(count: int, whole: int) -> str:
    if not count:
        return "none"
    share = count / whole
    return f"{share:.1%}" if share >= 0.001 else f"{count:,} rows"


def _quoted(text: str) -> str:
    """The text as a YAML string on one line."""
    escaped = (json.dumps(character)[1:-1] if character in '"\\' else character for character in text)
    return '"' + "".join(part if part.isprintable() else f"\\U{ord(part[0]):08X}" for part in escaped) + '"'
