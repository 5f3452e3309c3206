"""Which program an answer of code means, how sources write tests, and pass@k against HumanEval's own estimator."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from tasks.records.code_tests import tests_of as code_tests_of
from tasks.records.row import row_id_of
from tasks.records.shapes import Problem, to_fields
from tasks.scoring.code_answers import code_of, pass_at_k, programs_of, stub_of

STUB = 'from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    """ Sum.\n    >>> total([1, 2])\n    3\n    """'
CHECK = "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n"


def first_that_compiles(answer: str, stub: str = "") -> str | None:
    for text in programs_of(answer, stub):
        try:
            compile(text, "<answer>", "exec")
        except SyntaxError:
            continue
        return text
    return None


def value_of(answer: str, stub: str = STUB) -> Any:
    names: dict[str, Any] = {}
    text = first_that_compiles(answer, stub)
    assert text is not None
    exec(text, names)
    return names["total"]([1, 2, 4])


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("Run this:\n```bash\npip install x\n```\nthen\n```python\nx = 1\n```", "x = 1"),
        ("代码如下：\n```\nx = 1\n```\n说明：无。", "x = 1"),
        ("```Python3\nx = 1", "x = 1"),
        ("<think>\n```python\ny = 2\n```\n</think>\n\n```py\n    x = 1\n```", "    x = 1"),
        ("<think>I begin", ""),
        ("```python\n\n```", ""),
        (" \n", ""),
    ],
)
def test_code_is_the_first_block_of_python_or_the_whole_answer(answer: str, code: str) -> None:
    assert code_of(answer) == code
    assert programs_of(answer) == ((code,) if code else ())


@pytest.mark.parametrize(
    "answer",
    [
        "    return sum(numbers)",
        "return sum(numbers)",
        "result = 0\n    for number in numbers:\n        result += number\n    return result",
        "result = 0\nfor number in numbers:\n    result += number\nreturn result",
        "    return sum(numbers)\n\n\nprint(total([1]))\nThis function sums.",
        "def total(numbers):\n    return sum(numbers)",
        "```python\nfrom math import fsum\n\ndef total(numbers: List[int]) -> int:\n    return int(fsum(numbers))\n```",
    ],
)
def test_an_answer_may_be_the_body_or_the_whole_function(answer: str) -> None:
    assert value_of(answer) == 7


def test_a_signature_without_a_docstring_is_continued_or_replaced() -> None:
    stub = stub_of("请完成函数：\n\ndef total(numbers: dict[str, int] = {}):")
    assert stub == "def total(numbers: dict[str, int] = {}):"
    assert value_of("return sum(numbers)", stub) == 7
    assert value_of("def total(numbers):\n    return sum(numbers)", stub) == 7


def test_only_a_task_that_ends_in_a_signature_has_a_stub() -> None:
    assert stub_of(STUB) == STUB
    assert stub_of(f"Complete this function:\n\n```python\n{STUB}\n```\nAnswer with code only.") == STUB
    assert stub_of(f"{STUB}\n    # your code here\n") == f"{STUB}\n    # your code here"
    for other in (
        "Write a function that adds two numbers.",
        "Explain:\ndef f(x):\n    return x",
        f"{STUB}\n    return 1\n",
        "def f(",
        "写一个函数，返回两个数的和。",
        "",
    ):
        assert stub_of(other) == "", other


def test_pass_at_k_equals_the_estimator_of_humaneval() -> None:
    def published(n: int, c: int, k: int) -> float:  # human_eval/evaluation.py, estimator
        return 1.0 if n - c < k else float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

    for n, k in itertools.product((1, 5, 20, 200), (1, 3, 10, 100)):
        for c in {0, 1, n // 3, n - 1, n}:
            if k <= n:
                assert pass_at_k(n, c, k) == pytest.approx(published(n, c, k), abs=1e-12)
    assert pass_at_k(6, 3, 1) == pytest.approx(0.4999999999999999)  # its README, example_samples.jsonl


def test_tests_of_every_source_are_one_text() -> None:
    mbpp = {"tests": "test_list", "tests_setup": "test_setup_code"}
    record = {"test_list": ["assert f(1) == 1", "assert f(2) == 2"], "test_setup_code": "import math"}
    expected = {"tests": "import math\n\nassert f(1) == 1\nassert f(2) == 2"}
    assert code_tests_of(record, mbpp) == expected
    assert code_tests_of({**record, "test_list": json.dumps(record["test_list"])}, mbpp) == expected  # CSV
    humaneval = {"tests": "test", "entry_point": "entry_point"}
    called = code_tests_of({"test": CHECK, "entry_point": "total"}, humaneval)["tests"]
    assert called.endswith("assert candidate([1, 2]) == 3\n\ncheck(total)")
    assert code_tests_of({"test": called, "entry_point": "total"}, humaneval) == {"tests": called}
    for empty in ({}, {"test": None}, {"test": ""}, {"test": []}):
        assert code_tests_of(empty, humaneval) == {}


def test_a_source_has_tests_only_if_its_columns_name_them() -> None:
    record = {"instruction": "Sum", "output": "x", "tests": "assert x", "test": CHECK}
    plain = to_fields(record, "alpaca", {})
    tested = to_fields(record, "alpaca", {"tests": "test"})
    assert isinstance(plain, dict)
    assert isinstance(tested, dict)
    assert plain["tests"] == ""
    assert tested["tests"] == CHECK.strip("\n")
    retested = tested | {"tests": "assert add(1, 1) == 2"}
    ids = [row_id_of({"family": "code", **fields}) for fields in (plain, tested, retested)]
    assert len(set(ids)) == 3, "other tests are another row"
    before = {name: value for name, value in plain.items() if name != "tests"}
    assert row_id_of({"family": "code", **before}) == ids[0], "rows without tests keep their ids"


def test_tests_of_another_type_are_refused() -> None:
    for value in (7, {"a": 1}, ["assert x", 7]):
        problem = to_fields({"instruction": "Sum", "output": "x", "test": value}, "alpaca", {"tests": "test"})
        assert isinstance(problem, Problem)
        assert (problem.code, problem.field) == ("wrong_type", "test")
    columns = {"tests": "test", "entry_point": "name"}
    problem = to_fields({"instruction": "Sum", "output": "x", "test": CHECK, "name": "a b"}, "alpaca", columns)
    assert isinstance(problem, Problem)
    assert problem.field == "name"
