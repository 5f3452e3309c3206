"""`strop data build`: what it prints, what it writes, and its one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.project import params, write_params
from support.toy_rows import qa_records, write_jsonl

FAQ = {
    "name": "faq",
    "kind": "records",
    "records": "faq.jsonl",
    "templates": [{"instruction": "{{ question }}", "output": "{{ answer }}"}],
}
ENTRIES = [{"question": "Where is the office?", "answer": "In Bern."}, {"question": "几点开门？", "answer": "九点。"}]
SOURCE = {"name": "made", "path": "inbox/built/faq/*.jsonl", "shape": "alpaca", "family": "qa"}


def configure(
    root: Path, *recipes: dict[str, Any], sources: list[dict[str, Any]] | None = None, base: Path | str = "no-model"
) -> None:
    sections = params(base, sources or [], curate={"near_duplicates": "off"})
    write_params(root, {**sections, "build": {"recipes": list(recipes)}})


def test_it_reports_generated_and_refused_rows_and_the_collecting_source(strop: Any, project: Path) -> None:
    write_jsonl(project / "faq.jsonl", [*ENTRIES, {"question": "No answer?"}])
    configure(project, FAQ, sources=[SOURCE])
    code, out, _ = strop("data", "build")
    assert code == 0
    assert "faq (records): 2 new rows generated" in out
    assert "refused 1: missing field" in out
    assert "source made collects it" in out
    rows = [json.loads(line) for line in (project / "inbox/built/faq/0001.jsonl").read_text().splitlines()]
    assert [row["output"] for row in rows] == ["In Bern.", "九点。"]
    assert all(row["strop_synthetic"]["recipe"] == "faq" for row in rows)
    assert "0 new rows generated" in strop("data", "build")[1]


def test_a_folder_that_no_source_collects_is_named_with_the_line_to_add(strop: Any, project: Path) -> None:
    write_jsonl(project / "faq.jsonl", ENTRIES)
    configure(project, FAQ)
    out = strop("data", "build")[1]
    assert "no source collects it" in out
    assert "path: inbox/built/faq/*.jsonl, shape: row" in out


def test_json_holds_the_same_facts_and_a_dry_run_writes_nothing(project: Path) -> None:
    write_jsonl(project / "faq.jsonl", ENTRIES)
    configure(project, FAQ, {**FAQ, "name": "other"})
    line = [sys.executable, "-m", "flows.cli.main", "data", "build", "--recipe", "faq", "--dry-run", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert (result["dry_run"], len(result["recipes"])) == (True, 1)
    assert "2/1,000 rows" in done.stderr, "progress goes to standard error"
    assert (result["recipes"][0]["made"], result["recipes"][0]["new"], result["recipes"][0]["file"]) == (2, 2, None)
    assert not (project / "inbox/built").exists()


def test_an_unreachable_endpoint_is_reported_in_one_line(strop: Any, project: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    seed = {"instruction": "Say something kind to me.", "instances": [{"input": "", "output": "You are kind."}]}
    write_jsonl(project / "seeds.jsonl", [seed, seed])
    generator = {"model": "toy", "base_url": "http://127.0.0.1:9/v1", "attempts": 1}
    more = {"name": "more", "kind": "self_instruct", "seeds": "seeds.jsonl", "examples": 2, "generator": generator}
    configure(project, more)
    code, _, err = strop("data", "build")
    assert code == 1
    assert "cannot be reached" in err
    assert "the answers so far are stored" in err
    code, out, _ = strop("data", "build", "--dry-run")
    assert code == 0
    assert "at least 8 answers would be generated" in out


def test_an_unknown_recipe_and_a_project_without_recipes_are_reported(strop: Any, project: Path) -> None:
    configure(project, FAQ)
    code, _, err = strop("data", "build", "--recipe", "faqs")
    assert code == 1
    assert "there are: faq" in err
    configure(project)
    code, _, err = strop("data", "build")
    assert code == 1
    assert "Declare it in section `build`" in err


def test_made_rows_go_through_ingest_validate_and_curate_and_are_only_trained_on(
    strop: Any, project: Path, tiny_gpt2: Path
) -> None:
    from tasks.config import load_config
    from tasks.curate.stage import run as curate
    from tasks.dataset.read import read_dataset
    from tasks.ingest.stage import run as ingest
    from tasks.validate.stage import run as validate

    write_jsonl(project / "faq.jsonl", [{"question": f"How far is stop {n}?", "answer": f"{n} km."} for n in range(60)])
    write_jsonl(project / "inbox/qa.jsonl", qa_records(60))
    collected = {"name": "asked", "path": "inbox/qa.jsonl", "shape": "alpaca", "family": "qa"}
    configure(project, FAQ, sources=[collected, {**SOURCE, "shape": "row"}], base=tiny_gpt2)
    assert strop("data", "build")[0] == 0
    for room in (ingest, validate, curate):
        room(load_config())
    rows = read_dataset().to_pylist()
    made = [row for row in rows if row["synthetic"] == "faq"]
    assert len(made) > 50
    assert {row["split"] for row in made} == {"train"}
    assert {row["split"] for row in rows if not row["synthetic"]} == {"train", "valid", "test"}
    assert all(len(json.loads(row["parents"])) == 1 for row in made)
