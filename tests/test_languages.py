"""The language of a row is that of what people wrote in it: not of what tools answer, and not of JSON or code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import REPOSITORY

from tasks.prompts.templates.conversation import make_conversation
from tasks.prompts.templates.fill_template import write_question
from tasks.prompts.templates.templates import read_templates
from tasks.records.languages import human_turns, language_of_last_turn, row_language, without_data

WEATHER = '{"temperature": 22, "city": "Beijing", "description": "light rain in the evening"}'
CALL = '[{"arguments":{"city":"Beijing"},"name":"weather"}]'
CODE = "```python\nfor number in range(10):\n    print(number)\n```"
FAMILIES = read_templates(REPOSITORY / "data/templates")


def talk(*history: tuple[str, str], instruction: str = "", input: str = "", output: str = "ok") -> dict[str, Any]:
    return {
        "history": json.dumps(history, ensure_ascii=False) if history else "[]",
        "instruction": instruction, "input": input, "output": output,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        (
            talk(("user", "https://example.com/a/page-of-words"), ("assistant", "Read."), input="请总结这个网页的内容"),
            "zh",
        ),
        (talk(input="请看：https://example.com/a/very/long/page-of-words?query=something"), "zh"),
        (talk(("user", "北京今天天气怎么样？"), ("tool_call", CALL), input=WEATHER, output="Light rain."), "zh"),
        (
            talk(
                ("user", "How is Beijing?"),
                ("tool_call", CALL),
                input='{"天气": "小雨，傍晚转晴，气温二十二度"}',
                output="小雨。",
            ),
            "en",
        ),
        (talk(("user", "你好"), ("assistant", "Hi"), input="And now in English, please."), "mixed"),
        (talk(("user", "Hello there"), ("assistant", "Hi"), input="请用中文回答。"), "mixed"),
        (talk(("user", "北京今天天气怎么样？"), ("assistant", "小雨。"), input="OK"), "zh"),
        (talk(("user", "OK!"), ("assistant", "嗯"), input="请总结这个网页的内容"), "zh"),
        (talk(("user", "How is Beijing?"), ("assistant", "Rain."), input="好！"), "en"),
        (talk(("user", "OK"), ("assistant", "Yes"), input="Thanks"), "en"),
        (talk(("user", "你好"), ("assistant", "All of this is English."), input="再说一遍"), "zh"),
        (talk(("user", "你好"), ("assistant", "嗯"), input=WEATHER), "zh"),
        (talk(("user", "你好"), ("assistant", "嗯"), input="12 + 30 = ?"), "zh"),
        (talk(instruction="把这段 JSON 说成一句话。", input=WEATHER), "zh"),
        (talk(instruction="这段代码做什么？", input=CODE), "zh"),
        (talk(instruction="Translate into English.", input="它叫城市7，那里有三座桥和一条河。"), "zh"),
        (talk(instruction="What is the city called?"), "en"),
        (talk(instruction="用Python和NumPy写一个ResNet的forward函数"), "zh"),
        (talk(instruction="解释一下 machine learning 和 deep learning 的区别"), "zh"),
        (talk(instruction="求 $\\int_0^1 \\frac{\\sin(x)}{x} dx + \\lim_{n\\to\\infty}$ 的值"), "zh"),
        (talk(instruction="修复 `read_all_rows(from_table)` 的错误"), "zh"),
        (talk(instruction="What does the sentence 我喜欢吃苹果 mean in English?"), "en"),
        (talk(instruction="How do I say 谢谢你的帮助 politely?"), "en"),
        (talk(instruction="Write to 张伟 about the meeting in 北京 on Monday."), "en"),
        (talk(input="5 × 3 = ?", output="十五"), "zh"),
        (talk(input=WEATHER, output="好"), "en"),
        (talk(output="它叫城市7。"), "zh"),
    ],
)
def test_the_language_is_that_of_human_turns(fields: dict[str, Any], language: str) -> None:
    assert row_language(fields) == language


def test_a_mixed_row_takes_a_template_of_the_language_of_its_last_human_turn() -> None:
    asks = {"zh": talk(("user", "Hello"), ("assistant", "Hi"), input="请用中文回答。"),
            "zh, by all but one word": talk(("user", "北京今天天气怎么样？"), ("assistant", "小雨。"), input="OK"),
            "en": talk(("user", "你好"), ("assistant", "嗯"), input="In English, please.")}  # fmt: skip
    fixed = {"row_id": "1" * 32, "family": "dialogue", "language": "mixed", "system": "", "tools": ""}
    for name, fields in asks.items():
        language = name[:2]
        row = fixed | fields
        assert language_of_last_turn(row) == language
        template = FAMILIES["dialogue"].choose(row)
        assert template.language == language
        assert make_conversation(template, row).language == language
        assert write_question(template, row) == fields["input"]


def test_a_sources_language_wins(tmp_path: Any) -> None:
    import pyarrow as pa

    from tasks.records.parse import to_rows
    from tasks.records.raw_batch import RAW_SCHEMA
    from tasks.state.manifest import Batch

    record = {"instruction": "What is it called?", "input": "", "output": "City 7."}
    raw = [
        {"digest": str(number) * 32, "record": json.dumps(record), "file": "f", "line": 1, "shape": "alpaca", "family": "qa",
         "language": language, "columns": "{}", "use": "train"}
        for number, language in enumerate(("auto", "zh"))
    ]  # fmt: skip
    rows = to_rows(pa.Table.from_pylist(raw, RAW_SCHEMA), Batch(1, "b", "s", 2, ""))
    assert rows["language"].to_pylist() == ["en", "zh"]


@given(st.text(st.sampled_from('{}[]":,a城 `\n'), max_size=60))
def test_the_language_is_that_of_the_text_without_data(text: str) -> None:
    kept = iter(text)
    assert all(character == " " or character in kept for character in without_data(text))
    assert all(turn in text or turn == text.strip() for turn in human_turns(talk(input=text)))
