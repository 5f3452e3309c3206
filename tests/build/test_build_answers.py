"""Answers are stored at once, used again, and never generated twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.build.answers import AnswersMissing, CachedGenerator
from tasks.build.generator import CutOff, OnAnswer, ignore_answer
from tasks.errors import DataError, SourceError


class Counting:
    """Answers with a number that grows; fails at the prompt `bad`."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        answers = []
        for index, prompt in enumerate(prompts):
            if prompt == "bad":
                raise SourceError("went away")
            self.prompts.append(prompt)
            answers.append(f"{prompt} {len(self.prompts)}")
            on_answer(index, answers[-1])
        return answers


def test_an_answer_is_generated_once_also_for_the_next_process(tmp_path: Path) -> None:
    model = Counting()
    first = CachedGenerator(model, "m", "r", tmp_path).complete(["a", "b", "a"])
    assert first == ["a 1", "b 2", "a 3"], "the second occurrence of a prompt has an answer of its own"
    again = CachedGenerator(model, "m", "r", tmp_path)
    assert again.complete(["a", "b", "a", "c"]) == [*first, "c 4"]
    assert (again.generated, again.cached) == (1, 3)
    assert model.prompts == ["a", "b", "a", "c"]


def test_answers_from_before_a_failure_are_not_generated_again(tmp_path: Path) -> None:
    model = Counting()
    with pytest.raises(SourceError):
        CachedGenerator(model, "m", "r", tmp_path).complete(["a", "b", "bad", "c"])
    assert CachedGenerator(model, "m", "r", tmp_path).complete(["a", "b", "c"]) == ["a 1", "b 2", "c 3"]


def test_answers_of_another_generator_are_not_used(tmp_path: Path) -> None:
    model = Counting()
    CachedGenerator(model, "one", "r", tmp_path).complete(["a"])
    assert CachedGenerator(model, "other", "r", tmp_path).complete(["a"]) == ["a 2"]


def test_a_line_cut_by_a_crash_costs_only_that_answer(tmp_path: Path) -> None:
    model = Counting()
    CachedGenerator(model, "m", "r", tmp_path).complete(["甲", "乙"])
    file = tmp_path / "r.jsonl"
    file.write_bytes(file.read_bytes()[:-12])
    assert CachedGenerator(model, "m", "r", tmp_path).complete(["甲", "乙"]) == ["甲 1", "乙 3"]
    assert CachedGenerator(model, "m", "r", tmp_path).complete(["甲", "乙"]) == ["甲 1", "乙 3"]


def test_a_damaged_file_is_reported_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"key": "k", "answer": "x"}\n[1]\n')
    with pytest.raises(DataError, match=r"r\.jsonl line 2: not a stored answer"):
        CachedGenerator(Counting(), "m", "r", tmp_path)


def test_a_dry_run_generates_nothing(tmp_path: Path) -> None:
    model = Counting()
    CachedGenerator(model, "m", "r", tmp_path).complete(["a"])
    dry = CachedGenerator(None, "m", "r", tmp_path)
    assert dry.complete(["a"]) == ["a 1"]
    with pytest.raises(AnswersMissing) as raised:
        dry.complete(["a", "b"])
    assert raised.value.count == 2


def test_half_a_character_is_stored_as_valid_utf8(tmp_path: Path) -> None:
    class Odd:
        def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
            on_answer(0, "half \ud83d")
            return ["half \ud83d"]

    assert CachedGenerator(Odd(), "m", "r", tmp_path).complete(["a"]) == ["half \\ud83d"]


def test_an_answer_that_was_cut_off_is_stored_as_such(tmp_path: Path) -> None:
    class Cutting:
        def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
            on_answer(0, CutOff("half an ans"))
            return [CutOff("half an ans")]

    for model in (Cutting(), None):
        (answer,) = CachedGenerator(model, "m", "r", tmp_path).complete(["a"])
        assert (str(answer), isinstance(answer, CutOff)) == ("half an ans", True)
