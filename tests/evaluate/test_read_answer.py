"""An answer in use is read as evaluation reads it."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.evaluate.predictions import score_rows
from tasks.scoring.metrics import answer_kinds
from tasks.scoring.read_answer import AnswerReader
from tasks.scoring.targets import Frame

TARGETS = {
    "classification": "sport", "entities": '[{"type":"PER","text":"Ann"}]', "json": '{"a": 1}', "code": "x = 1",
    "relation": '[{"head":"Ann","relation":"lives in","tail":"巴黎"}]', "tool_calls": '[{"arguments":{},"name":"f"}]',
}  # fmt: skip
ANSWERS = [
    *("The section is sport.", "sport", "**体育**", "", " \n", "PER: Ann\n地点：巴黎", "Ann | lives in | Paris", "无"),
    *('```json\n{"a": 1.50, "城市": ["巴黎"]}\n```', "[1, 2]", "true", "```python\nx = 2\n```", "Cause-Effect(e1,e2)"),
    *('I look. <tool_call>{"name": "f", "arguments": {"城市": "巴黎"}}</tool_call>', "<think>hm</think>sport"),
    *("<think>It never ends", "hm</think>\n\nsport", "Close it with </think>.", '{"PER": ["Ann", "安"]}'),
]


@pytest.mark.parametrize("kind", answer_kinds())
@pytest.mark.parametrize("opens_thought", [False, True])
def test_what_is_read_in_use_is_what_evaluation_reads(kind: str, opens_thought: bool) -> None:
    frame = Frame("The section is ", ".")
    row: dict[str, Any] = {"kind": kind, "target": TARGETS.get(kind, "Some text."), "prompt": "What? 什么？"}
    row |= {"before": frame.before, "after": frame.after, "opens_thought": opens_thought, "question": "What? 什么？"}
    rows = score_rows([row] * len(ANSWERS), ANSWERS)
    reader = AnswerReader(kind, frame, opens_thought)
    for answer, evaluated in zip(ANSWERS, rows, strict=True):
        read = reader.read(answer)
        if kind == "tool_calls" and evaluated["is_unparsed"]:
            assert read.kind == "free", "an answer without calls is a text, where evaluation expects calls"
        else:
            assert (read.text, read.is_unparsed) == (evaluated["read"], evaluated["is_unparsed"]), answer


def test_where_tools_may_be_called_an_answer_is_read_as_calls_or_else_by_its_family() -> None:
    call = '{"name": "f", "arguments": {"n": 1}}'
    for kind in ("free", "tool_calls"):
        read = AnswerReader(kind, may_call=True).read(f"<think>hm</think>{call}")
        assert (read.kind, read.as_json) == ("tool_calls", [{"arguments": {"n": 1}, "name": "f"}])
        read = AnswerReader(kind, may_call=True).read("晴天。")
        assert (read.kind, read.as_json) == ("free", "晴天。")
    assert AnswerReader("free").read(call).kind == "free"


def test_a_value_is_printed_as_json_with_the_names_of_its_parts() -> None:
    def value(kind: str, answer: str) -> Any:
        return AnswerReader(kind, Frame("They are: ")).read(answer).as_json

    entities = [{"type": "PER", "text": "Ann"}, {"type": "LOC", "text": "巴黎"}]
    for answer in ("PER: Ann\nLOC: 巴黎", "They are: PER: Ann\nLOC: 巴黎", '{"PER": ["Ann"], "LOC": ["巴黎"]}'):
        assert value("entities", answer) == entities
    assert value("entities", "无") == []
    assert value("relation", "Ann | lives in | 巴黎") == [{"head": "Ann", "relation": "lives in", "tail": "巴黎"}]
    assert value("json", '{"a": 1.5, "b": [true, "二"]}') == {"a": 1.5, "b": [True, "二"]}
    assert value("entities", "I do not know any of that") is None
