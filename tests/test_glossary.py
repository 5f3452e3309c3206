"""docs/glossary.md: every term is defined once and used, and the words that the terms replaced are not identifiers any more."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.project import REPOSITORY

from tasks import paths

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (REPOSITORY / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| term ")
]
TERMS = {term: (chinese, meaning) for term, chinese, meaning in ROWS}

USED_BY: dict[str, tuple[str, str]] = {
    "room": ("heading", "README.md"),
    "record": ("heading", "docs/decisions/0004-what-a-record-is.md"),
    "row": ("heading", "docs/data.md"),
    "batch": ("name", "tasks/state/manifest.py:Batch"),
    "kind (of a source)": ("setting", "ingest.sources[].kind"),
    "format": ("setting", "ingest.sources[].format"),
    "shape": ("setting", "ingest.sources[].shape"),
    "family": ("setting", "ingest.sources[].family"),
    "use": ("setting", "ingest.sources[].use"),
    "contract": ("heading", "docs/data.md"),
    "quarantine": ("heading", "docs/data.md"),
    "tombstone": ("name", "tasks/curate/dedup/known.py:is_tombstone"),
    "cluster representative": ("name", "tasks/curate/batch_state.py:representative"),
    "cross-split duplicate": ("name", "tasks/curate/sides/place.py:cross_split"),
    "template": ("heading", "docs/templates.md"),
    "kind (of a template)": ("name", "tasks/prompts/templates/templates.py:kind"),
    "form": ("name", "tasks/render/forms/forms.py:is_of_form"),
    "packed row": ("heading", "docs/decisions/0015-packing.md"),
    "champion": ("setting", "finetune.continue_from"),
    "candidate": ("setting", "promote.approval"),
    "verdict": ("name", "tasks/gate/policy.py:Verdict"),
    "tier": ("setting", "gate.tiers"),
    "slice": ("setting", "gate.slices"),
    "degenerate answer": ("file", "tasks/scoring/degenerate_answers.py"),
    "gateway": ("heading", "docs/decisions/0041-gateway.md"),
    "challenger": ("name", "tasks/model_store/ledger_entries.py:challenger"),
    "canary": ("name", "tasks/model_store/canaries.py:Canary"),
    "shadow": ("setting", "serve.shadow"),
    "probe": ("setting", "evaluate.probes"),
    "judge": ("setting", "evaluate.judge"),
    "rubric": ("name", "tasks/evaluate/judge/rubric.py:Rubric"),
    "round": ("path", "data/round.json"),
    "test epoch": ("name", "tasks/state/round.py:test_epoch"),
    "look": ("name", "tasks/state/round.py:looks"),
    "receipt": ("path", "data/reports/receipt.json"),
    "plugin": ("heading", "docs/extend.md"),
    "ledger": ("heading", "docs/decisions/0003-ledger-in-git.md"),
    "retired (version)": ("heading", "docs/decisions/0033-retention.md"),
    "snapshot commit": ("file", "tasks/workspace/snapshot_commit.py"),
    "served-path check": ("setting", "serve.engine.check"),
    "spool (of a server)": ("file", "tasks/feedback/spool.py"),
    "demonstration": ("heading", "docs/serving.md"),
}
"""Term → the heading of a page, setting, path or name in the code that uses it."""

REPLACED = frozenset({
    *("told", "tell", "tells", "telling", "said", "wanted", "asked", "heard", "remembered", "mend", "mended"),
    *("ghost", "ghosts", "leader", "leaders", "bridge", "bridges", "sketch", "sketches", "sketching", "mistake", "mistakes"),
})  # fmt: skip
"""Words that the glossary's terms and the field's nouns replace. A name may not have one of them as a part."""
ALLOWED = {
    ("tasks/validate/contract/custom_rules.py", "said"): "the key `said` of a custom rule in data/contract",
    ("tasks/build/stage.py", "asked"): "a key of `strop data build --json`",
    ("tasks/build/stage.py", "not_generated"): "the same",
    ("tasks/build/stage.py", "remembered"): "the same",
    ("flows/cli/build.py", "asked"): "the same",
    ("flows/cli/build.py", "not_generated"): "the same",
    ("flows/cli/build.py", "remembered"): "the same",
    ("tasks/curate", "sketch_batch"): "a module path",
    ("tasks/curate", "sketch_file"): "a module path",
}
"""(file or folder, name) → why the word stays."""


def test_every_term_is_defined_once_in_both_languages() -> None:
    assert len(TERMS) == len(ROWS) > 20
    assert len({chinese for chinese, _ in TERMS.values()}) == len(ROWS)
    assert all(
        re.search("[\u4e00-\u9fff]", chinese) and meaning.endswith((".", ")")) for chinese, meaning in TERMS.values()
    )


def settings() -> set[str]:
    """The names of all settings, as docs/settings.md lists them."""
    names, section = set(), ""
    for line in (REPOSITORY / "docs/settings.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## `(\w+)`", line):
            section = heading[1]
        elif entry := re.match(r"\| `([\w.\[\]]+)`", line):
            names.add(f"{section}.{entry[1]}")
    return names


def names_of(path: Path) -> Iterator[str]:
    """Names that a module defines or uses: variables, attributes, parameters, functions, classes and keywords."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_used_by_a_heading_a_setting_or_a_name(term: str) -> None:
    kind, where = USED_BY[term]
    word = term.partition(" (")[0]
    if kind == "heading":
        headings = [
            line for line in (REPOSITORY / where).read_text(encoding="utf-8").splitlines() if line.startswith("#")
        ]
        assert any(word in heading.lower() for heading in headings)
    elif kind == "setting":
        assert where in settings()
    elif kind == "path":
        assert Path(where) in {value for value in vars(paths).values() if isinstance(value, Path)}
    elif kind == "file":
        assert (REPOSITORY / where).is_file()
    else:
        module, name = where.split(":")
        assert name in set(names_of(REPOSITORY / module))


def test_settings_and_files_that_a_definition_names_exist() -> None:
    assert TERMS.keys() == USED_BY.keys()
    for _, meaning in TERMS.values():
        for name in re.findall(r"`((?:ingest|finetune|curate|render|gate)\.[\w.\[\]]+)`", meaning):
            assert name in settings(), name
        for name in re.findall(r"`(data/[\w/]+(?:\.\w+)?)`", meaning):
            assert Path(name) in {value for value in vars(paths).values() if isinstance(value, Path)}, name


def test_words_that_the_glossary_replaces_are_no_part_of_a_name() -> None:
    result = []
    for package in ("tasks", "flows"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            file = str(path.relative_to(REPOSITORY))
            for name in set(names_of(path)):
                parts = {part.lower() for part in re.split(r"_|\.|(?<=[a-z])(?=[A-Z])", name)}
                module_names = {part for part in name.split(".") if "." in name}
                allowed = any(
                    file.startswith(where) and (word == name or word in module_names) for where, word in ALLOWED
                )
                if parts & REPLACED and not allowed:
                    result.append(f"{file}: {name}")
    assert not result, "\n".join(result)
