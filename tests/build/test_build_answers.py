"""Answers are kept as they come, found again, and never asked for twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.build.answers import Answers, NotAnswered
from tasks.build.generator import CutOff, Keep, keep_nothing
from tasks.errors import DataError, SourceError


class Counting:
    """Answers with a number that grows; fails at the prompt `bad`."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
        answers = []
        for place, prompt in enumerate(prompts):
            if prompt == "bad":
                raise SourceError("went away")
            self.prompts.append(prompt)
            answers.append(f"{prompt} {len(self.prompts)}")
            keep(place, answers[-1])
        return answers


def test_an_answer_is_asked_for_once_also_by_the_next_process(tmp_path: Path) -> None:
    model = Counting()
    first = Answers(model, "m", "r", tmp_path).complete(["a", "b", "a"])
    assert first == ["a 1", "b 2", "a 3"], "the second time that a prompt is asked it is drawn anew"
    again = Answers(model, "m", "r", tmp_path)
    assert again.complete(["a", "b", "a", "c"]) == [*first, "c 4"]
    assert (again.asked, again.remembered) == (1, 3)
    assert model.prompts == ["a", "b", "a", "c"]


def test_what_was_answered_before_a_failure_is_not_asked_for_again(tmp_path: Path) -> None:
    model = Counting()
    with pytest.raises(SourceError):
        Answers(model, "m", "r", tmp_path).complete(["a", "b", "bad", "c"])
    assert Answers(model, "m", "r", tmp_path).complete(["a", "b", "c"]) == ["a 1", "b 2", "c 3"]


def test_another_generator_s_answers_are_not_taken(tmp_path: Path) -> None:
    model = Counting()
    Answers(model, "one", "r", tmp_path).complete(["a"])
    assert Answers(model, "other", "r", tmp_path).complete(["a"]) == ["a 2"]


def test_a_line_torn_by_a_crash_costs_that_one_answer(tmp_path: Path) -> None:
    model = Counting()
    Answers(model, "m", "r", tmp_path).complete(["甲", "乙"])
    file = tmp_path / "r.jsonl"
    file.write_bytes(file.read_bytes()[:-12])
    assert Answers(model, "m", "r", tmp_path).complete(["甲", "乙"]) == ["甲 1", "乙 3"]
    assert Answers(model, "m", "r", tmp_path).complete(["甲", "乙"]) == ["甲 1", "乙 3"]


def test_a_file_that_somebody_spoilt_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"key": "k", "answer": "x"}\n[1]\n')
    with pytest.raises(DataError, match=r"r\.jsonl line 2"):
        Answers(Counting(), "m", "r", tmp_path)


def test_a_dry_run_asks_nothing(tmp_path: Path) -> None:
    model = Counting()
    Answers(model, "m", "r", tmp_path).complete(["a"])
    dry = Answers(None, "m", "r", tmp_path)
    assert dry.complete(["a"]) == ["a 1"]
    with pytest.raises(NotAnswered) as stopped:
        dry.complete(["a", "b"])
    assert stopped.value.count == 2


def test_half_a_character_is_kept_as_text_that_any_file_can_hold(tmp_path: Path) -> None:
    class Odd:
        def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
            keep(0, "half \ud83d")
            return ["half \ud83d"]

    assert Answers(Odd(), "m", "r", tmp_path).complete(["a"]) == ["half \\ud83d"]


def test_an_answer_that_was_cut_off_is_remembered_as_such(tmp_path: Path) -> None:
    class Cutting:
        def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
            keep(0, CutOff("half an ans"))
            return [CutOff("half an ans")]

    for model in (Cutting(), None):
        (answer,) = Answers(model, "m", "r", tmp_path).complete(["a"])
        assert (str(answer), isinstance(answer, CutOff)) == ("half an ans", True)
