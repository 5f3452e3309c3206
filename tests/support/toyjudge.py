"""Rows, preferences and a judge behind a toy endpoint: it reads the prompts as a model would, between the tags of the rubric."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.project import REPOSITORY
from support.toyendpoint import Reply
from tasks import paths
from tasks.evaluate.judge.judge import Judge
from tasks.evaluate.judge.round import Judging, read_inputs
from tasks.evaluate.judge.settings import JudgeSettings
from tasks.evaluate.predictions import Row
from tasks.evaluate.settings import EvaluateSettings
from tasks.runtime.files import write_text

BASE = "HuggingFaceTB/SmolLM2-135M"
SECONDS = 0.01


def texts_of(prompt: str) -> dict[str, str]:
    """The texts between the tags of a prompt, by name."""
    (fence,) = set(re.findall(r"ends? in -([0-9a-f]{16})|以 -([0-9a-f]{16}) 结尾", prompt)) or {("", "")}
    digest = "".join(fence)
    pattern = rf"<(question|target|answer_a|answer_b)-{digest}>\n(.*?)\n</\1-{digest}>"
    return dict(re.findall(pattern, prompt, re.DOTALL))


def verdict(winner: str, reason: str = "因为 because", **usage: int) -> Reply:
    content = json.dumps({"reason": reason, "winner": winner})
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = usage or {"prompt_tokens": 100, "completion_tokens": 10}
    return Reply(body=json.dumps({"choices": [choice], "usage": usage}))


def honest(prompt: str) -> Reply:
    """Prefers the answer with the word `good` or `好`; without a difference, a tie."""
    texts = texts_of(prompt)
    is_good = [any(word in texts[name] for word in ("good", "好")) for name in ("answer_a", "answer_b")]
    return verdict("tie" if is_good[0] == is_good[1] else "A" if is_good[0] else "B")


def copy_rubrics() -> None:
    for name in ("default.j2", "default.zh.j2"):
        write_text(paths.JUDGES / name, (REPOSITORY / paths.JUDGES / name).read_text(encoding="utf-8"))


def write_preferences(count: int, agree: Callable[[int], bool] = lambda number: True, **fields: str) -> None:
    """People's preferences, half of them Chinese: a person prefers `good`, or the other answer where they do not agree."""
    lines = []
    for number in range(count):
        good, bad = ("一个好答案", "一个坏答案") if number % 2 else ("a good answer", "a bad answer")
        answers = [f"{good} {number}", f"{bad} {number}"]
        question = f"第{number}个问题是什么？" if number % 2 else f"What is question {number}?"
        first = number % 4 < 2
        preferred = "AB"[first != agree(number)]
        answer_a, answer_b = answers if first else reversed(answers)
        line = {"question": question, "answer_a": answer_a, "answer_b": answer_b, "preferred": preferred, **fields}
        lines.append(json.dumps(line, ensure_ascii=False))
    write_text(Path(f"{paths.JUDGES}/preferences.jsonl"), "\n".join(lines) + "\n")


def judge_settings(base_url: str, **settings: Any) -> JudgeSettings:
    defaults: dict[str, Any] = {
        "base_url": base_url, "model": "qwen-judge", "families": ("qa",), "timeout_seconds": 5.0, "attempts": 2
    }  # fmt: skip
    return JudgeSettings(**(defaults | settings))


def judging(base_url: str, **settings: Any) -> Judging:
    """The judge as a stage opens it, with short pauses."""
    options = judge_settings(base_url, **settings)
    inputs = read_inputs(options)
    evaluate = EvaluateSettings(judge=options, bootstrap_samples=500)
    return Judging(evaluate, Judge(options, inputs.rubrics, first_pause_seconds=SECONDS), inputs)


def row(number: int, answer: str, **fields: Any) -> Row:
    chinese = number % 2 == 1
    defaults = {
        "row_id": f"r{number:03}", "family": "qa", "kind": "qa", "language": "zh" if chinese else "en", "read": answer,
        "target": "目标" if chinese else "target", "prompt": f"prompt {number}", "degenerate": None, "score": 0.5,
    }  # fmt: skip
    return defaults | fields


def compare(judge: Judging, candidate: list[Row], reference: list[Row], base: str = BASE) -> dict[str, Any]:
    rows = {"base": [], "champion": reference, "candidate": candidate}
    questions = {row["row_id"]: f"question {row['row_id']}" for row in candidate}
    return judge.compare(rows, "champion", questions, base)
