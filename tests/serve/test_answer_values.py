"""The value of an answer for use: JSON that no later step can write fails its own request alone."""

from __future__ import annotations

import json

import pytest
from pydantic_core import to_json

from tasks.scoring.read_answer import AnswerReader
from tasks.serve.engine.ending import MOST_LEVELS, read_within_levels
from tasks.serve.engine.messages import event_as_json, event_of
from tasks.serve.engine.request import EngineFailed, Finished


def nested(levels: int) -> str:
    return '{"键":' * (levels // 2) + "[" * (levels - levels // 2) + "]" * (levels - levels // 2) + "}" * (levels // 2)


def test_value_that_is_returned_can_be_sent_and_written() -> None:
    read, value = read_within_levels(AnswerReader("json"), nested(MOST_LEVELS))
    assert not read.is_unparsed
    event = Finished(0, "stop", "", 1, value=value)
    _, name, values = json.loads(json.dumps(event_as_json("a", event)))
    assert event_of(name, values) == event
    assert json.loads(to_json({"value": value})) == {"value": value}


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 600, 900])
@pytest.mark.parametrize("reader", [AnswerReader("json"), AnswerReader("entities")])
def test_json_with_too_many_levels_fails_its_request_alone(reader: AnswerReader, levels: int) -> None:
    if reader.kind == "json":
        with pytest.raises(EngineFailed, match=r"levels|deeply"):
            read_within_levels(reader, nested(levels))
    else:  # its value has a fixed form
        assert read_within_levels(reader, nested(levels))[0].is_unparsed


def test_calls_with_too_many_levels_fail_their_request_alone() -> None:
    call = f'{{"name": "查", "arguments": {{"a": {nested(500)}}}}}'
    with pytest.raises(EngineFailed, match=r"levels|deeply"):
        read_within_levels(AnswerReader("free", may_call=True), call)
