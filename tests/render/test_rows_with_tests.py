"""The tests of a row of code reach the evaluation, but neither a prompt nor what is trained."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.project import REPOSITORY
from support.toychat import chat_tokenizer

from tasks.base.generation import answer_reader
from tasks.prompts.templates.templates import read_templates
from tasks.prompts.tokens.tokens import Example, Renderer
from tasks.render.forms.answers import test_row as row_of_test

FAMILIES = read_templates(REPOSITORY / "data/templates")
CHATML = (REPOSITORY / "data/templates/chat/chatml.jinja").read_text(encoding="utf-8")
STUB = 'def total(numbers):\n    """Sum."""'
TESTS = "assert total([20, 22]) == 42"


def rendered(**fields: str) -> tuple[Example, dict[str, Any]]:
    row = {
        "row_id": "0" * 32, "batch": "b", "source": "s", "use": "train", "family": "code", "language": "en", "system": "",
        "tools": "", "history": "[]", "instruction": "Complete the function.", "input": STUB,
        "output": "    return sum(numbers)", "tests": TESTS, **fields,
    }  # fmt: skip
    tokenizer = chat_tokenizer(CHATML)
    families = FAMILIES[row["family"]]
    (example,) = Renderer(tokenizer, 4096, all_turns=False).render([row], families.choose)
    assert isinstance(example, Example)
    return example, row_of_test(example, FAMILIES, answer_reader(tokenizer))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_tests_are_in_the_test_row_and_in_no_prompt_and_no_target(language: str, number: int) -> None:
    example, row = rendered(language=language, row_id=f"{number:08x}{'0' * 24}")
    assert (row["kind"], row["tests"], row["stub"]) == ("code", TESTS, STUB)
    others = {name: value for name, value in row.items() if name != "tests"}
    assert "42" not in json.dumps(others, ensure_ascii=False)
    without, _ = rendered(language=language, row_id=f"{number:08x}{'0' * 24}", tests="")
    assert example.ids.tolist() == without.ids.tolist()


def test_rows_of_other_kinds_and_without_tests_have_none() -> None:
    for fields in ({"family": "qa"}, {"tests": ""}):
        _, row = rendered(**fields)
        assert (row["tests"], row["stub"]) == ("", "")
