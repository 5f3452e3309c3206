"""A model in this process as the judge: the same prompts, parsing, refusals and right to vote as behind an endpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.toyjudge import compare, copy_rubrics, honest, judging, row, write_preferences

from tasks.base.generation import Answer
from tasks.errors import ConfigError
from tasks.evaluate.judge import local
from tasks.evaluate.judge.model_files import find_judge, judge_name
from tasks.evaluate.judge.settings import JudgeSettings
from tasks.inference.embedded import EmbeddedEngine
from tasks.inference.engine import LogitsNotFinite


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama: Path) -> None:
    monkeypatch.chdir(tmp_path)
    copy_rubrics()
    write_preferences(0)
    shutil.copytree(tiny_llama, tmp_path / "judges" / "Qwen-mini")
    config = tmp_path / "judges" / "Qwen-mini" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 8192}))


def local_judge(**settings: Any) -> Any:
    return judging(None, model="judges/Qwen-mini", max_answer_tokens=12, **settings)  # type: ignore[arg-type]


def write_answers(monkeypatch: pytest.MonkeyPatch, answer: Any = honest) -> list[str]:
    """Makes the engine write what a judge would write; returns the prompts that it got."""
    prompts: list[str] = []

    def generate(self: EmbeddedEngine, ids: Sequence[list[int]], limit: int, on_answers: Any) -> None:
        assert limit == 12
        for index, tokens in enumerate(ids):
            prompts.append(self.tokenizer.decode(tokens))
            content = json.loads(answer(prompts[-1]).body)["choices"][0]["message"]["content"]
            on_answers({index: Answer(content, is_cut=False)})

    monkeypatch.setattr(EmbeddedEngine, "generate", generate)
    return prompts


def pairs(count: int) -> tuple[list[Any], list[Any]]:
    return [row(n, f"a good 好 answer {n}") for n in range(count)], [row(n, f"a weak answer {n}") for n in range(count)]


def test_a_tiny_model_really_answers_and_its_nonsense_is_a_tie() -> None:
    measured = compare(local_judge(), *pairs(1))["families"]["qa"]
    assert (measured["tie"], measured["unparsed"], measured["calls"], measured["refused"]) == (1, 2, 2, 0)
    assert measured["prompt_tokens"] > 100


def test_its_verdicts_count_as_those_of_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    write_preferences(24)
    prompts = write_answers(monkeypatch)
    result = compare(local_judge(), *pairs(3), base="HuggingFaceTB/SmolLM2-135M")
    measured = result["families"]["qa"]
    assert (measured["win"], measured["flips"], result["agreement"]["default"]["kappa"]) == (3, 0, 1.0)
    assert measured["may_decide"]
    assert len(prompts) == 2 * (3 + 24)
    compare(local_judge(), *pairs(3))
    assert len(prompts) == 54, "stored answers are used"
    weights = Path("judges/Qwen-mini/generation_config.json")
    weights.write_text(weights.read_text() + " " if weights.exists() else "{}")
    compare(local_judge(), *pairs(3))
    assert len(prompts) == 108, "other files are another judge"


def test_its_family_is_that_of_its_name_and_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    write_answers(monkeypatch)
    settings = JudgeSettings(model="judges/Qwen-mini", families=("qa",))
    assert judge_name(settings) == "judges/Qwen-mini llama"
    write_preferences(24)
    objection = compare(local_judge(), *pairs(1), base="meta-llama/Llama-3.1-8B")["families"]["qa"]["objection"]
    assert objection.startswith("judge and base are of the family llama")


def test_a_hub_id_that_names_another_family_is_of_the_family_of_its_architecture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_answers(monkeypatch)
    write_preferences(24)
    files = find_judge("judges/Qwen-mini")
    monkeypatch.setattr(local, "find_judge", lambda name: files)
    judge = judging(None, model="someone/claude-mini", max_answer_tokens=12)  # type: ignore[arg-type]
    objection = compare(judge, *pairs(1), base="meta-llama/Llama-3.1-8B")["families"]["qa"]["objection"]
    assert objection.startswith("judge and base are of the family llama")


def test_a_chat_template_that_refuses_the_prompt_gives_no_judged_verdict() -> None:
    for file in Path("judges/Qwen-mini").glob("chat_template*"):
        file.unlink()
    config = Path("judges/Qwen-mini/tokenizer_config.json")
    template = {"chat_template": "{{ raise_exception('no turns') }}"}
    config.write_text(json.dumps(json.loads(config.read_text()) | template))
    problem = compare(local_judge(), *pairs(1))["families"]["qa"]["problem"]
    assert problem.startswith(
        "evaluate.judge.model: the chat template raises an error for the turns user: no turns. Set it"
    )


def test_a_prompt_that_exceeds_its_context_is_refused_and_the_others_are_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_answers(monkeypatch)
    candidate, reference = pairs(3)
    candidate[1] = row(1, "长" * 9000)
    measured = compare(local_judge(), candidate, reference)["families"]["qa"]
    assert (measured["win"], measured["tie"], measured["refused"]) == (2, 1, 1)


def test_a_model_that_computes_nan_gives_no_judged_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise LogitsNotFinite

    monkeypatch.setattr(EmbeddedEngine, "generate", fail)
    problem = compare(local_judge(), *pairs(1))["families"]["qa"]["problem"]
    assert problem.startswith(
        "evaluate.judge.model: judge judges/Qwen-mini computes NaN or infinity, so it has no answers. Set it"
    )


@pytest.mark.parametrize("name", ["judges/missing", "./judges"])
def test_a_model_that_is_missing_is_reported_before_any_model_is_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"evaluate\.judge\.model: \S*judges"):
        judging(None, model=name)  # type: ignore[arg-type]


def test_a_file_of_preferences_in_which_an_erasure_does_not_look_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ends in \.jsonl"):
        JudgeSettings(model="m", families=("qa",), preferences="data/judges/people.json")


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"api_key_env": "KEY"}])
def test_settings_of_an_endpoint_are_refused_without_one(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="are those of an endpoint"):
        JudgeSettings(model="m", families=("qa",), **settings)
