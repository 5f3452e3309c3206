"""Self-instruct: new tasks unlike all others, with examples, in both languages; a resumed recipe pays no answer twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.project import params, write_params
from support.realdata import real
from support.toy_rows import write_jsonl
from support.toyendpoint import Reply

from tasks.build.self_instruct import read_seeds
from tasks.build.stage import RecipeResult, build
from tasks.config import load_config
from tasks.errors import ConfigError, SourceError
from tasks.records.raw_batch import digest_of
from tasks.records.segmentation import segment
from tasks.scoring.text_metrics import rouge_l_of_tokens

pytest_plugins = ["support.toyendpoint"]

VERBS = [
    "Explain",
    "Describe",
    "Summarise",
    "Compare",
    "Rank",
    "Invent",
    "Translate",
    "Rewrite",
    "Estimate",
    "Criticise",
    "Defend",
    "Imagine",
]
THINGS = ["a quiet harbour", "the oldest law", "your garden", "seven bad excuses", "winter bread", "one honest letter"]
ACTS = ["解释", "描述", "总结", "比较", "想象", "改写", "估计", "批评"]
TOPICS = ["一座安静的海港", "最古老的法律", "邻居家的花园", "七个糟糕的借口", "冬天的面包", "一封诚实的信"]


def seeds() -> list[dict[str, Any]]:
    plain = [
        {"id": f"seed_{n}", "instruction": f"Task about topic {n} {VERBS[n]} it with word{n} and term{n}.",
         "instances": [{"input": f"in {n}", "output": f"out {n}"}], "is_classification": False}
        for n in range(8)
    ]  # fmt: skip
    labels = [
        {"id": f"seed_c{n}", "instruction": f"Is mood{n} of this remark{n} glad{n} or sad{n}?",
         "instances": [{"input": f"hm {n}", "output": "glad"}], "is_classification": True}
        for n in range(3)
    ]  # fmt: skip
    return [*plain, *labels]


class Model:
    """A toy that generates tasks: good ones, useless ones, and duplicates. Its answers depend on the prompt."""

    def __init__(self, language: str = "en") -> None:
        self.language, self.fails_after = language, 10**9
        self.counted = 0

    def __call__(self, prompt: str) -> str | Reply:
        self.counted += 1
        if self.counted > self.fails_after:
            return Reply(401, "no money left")
        if prompt.startswith(("Come up with a series", "请想出")):
            return self._tasks(prompt)
        if prompt.startswith(("Can the following", "下面的任务")):
            return "Yes" if "Rank" in prompt.rsplit("\n\n", 1)[1] else "否" if self.language == "zh" else "No"
        if prompt.startswith("Given the classification"):
            return "Class label: good\nInput: fine work\nClass label: bad\nInput: poor work"
        if self.language == "zh":
            return "示例 1\n输入：无\n输出：这是一个回答。\n\n示例 2\n输入：某个材料\n输出：另一个回答。"
        examples = [("some text", "an answer."), ("x", "one"), ("x", "two")]
        return "\n\n".join(f"Example {n}\nInput: {i}\nOutput: {o}" for n, (i, o) in enumerate(examples, start=1))

    def _tasks(self, prompt: str) -> str:
        start = sum(map(ord, prompt))  # the same prompt, the same answer: requests may come in any order
        if self.language == "zh":
            lines = [
                f"{ACTS[(start + n) % 8]}{TOPICS[(start // 3 + n) % 6]}，不超过{start % 90 + n}个字。" for n in range(3)
            ]
            return "\n".join(
                f"任务 {n + 9}：{line}" for n, line in enumerate([*lines, "继续", "画图说明水的循环过程。"])
            )
        lines = [
            f"{VERBS[(start + n) % 12]} {THINGS[(start // 5 + n) % 6]} for reader{start % 17} in mood{start % 23 + n}."
            for n in range(3)
        ]
        rubbish = [
            "Go on.",
            "Draw a picture of a red house.",
            seeds()[0]["instruction"],
            lines[0],
            "Write about the end of",
        ]
        return "\n".join(f"Task {n + 9}: {line}" for n, line in enumerate([*lines, *rubbish]))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "seeds.jsonl", seeds())
    return tmp_path


def run(base_url: str, dry_run: bool = False, **recipe: Any) -> RecipeResult:
    generator = {"model": "toy", "base_url": base_url, "parallel_requests": 2}
    defaults = {"name": "new", "kind": "self_instruct", "seeds": "seeds.jsonl", "generator": generator, "rows": 30}
    write_params(Path(), {**params("x", []), "build": {"recipes": [{**defaults, **recipe}]}})
    return build(load_config(), dry_run=dry_run)[0]


def rows() -> list[dict[str, Any]]:
    files = sorted(Path("inbox/built/new").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def test_new_tasks_have_examples_and_useless_ones_are_refused_by_reason(
    here: Path, start_endpoint: Callable[..., Any]
) -> None:
    built = run(start_endpoint(Model()).base_url)
    assert built.made == 30 == len(rows())
    for reason in ("too_short", "not_for_text", "too_similar", "cut_off", "conflicting_outputs"):
        assert built.refused[reason] > 0, reason
    assert {row["input"] for row in rows()} <= {"some text", "fine work", "poor work"}
    labelled = {row["output"] for row in rows() if row["instruction"].startswith("Rank")}
    assert labelled <= {"good", "bad"}
    known = {digest_of(seed) for seed in seeds()}
    for row in rows():
        assert set(row["strop_synthetic"]["parents"]) <= known
        assert 6 <= len(row["strop_synthetic"]["parents"]) <= 8


def test_no_two_instructions_are_similar_nor_similar_to_a_seed(here: Path, start_endpoint: Callable[..., Any]) -> None:
    run(start_endpoint(Model()).base_url)
    texts = list({row["instruction"] for row in rows()})
    everything = [*texts, *(seed["instruction"] for seed in seeds())]
    assert len(texts) >= 5
    for text in texts:
        assert max(rouge_l_of_tokens(segment(text), segment(other)) for other in everything if other != text) < 0.7


def test_chinese_tasks_are_prompted_parsed_and_compared_in_chinese(
    here: Path, start_endpoint: Callable[..., Any]
) -> None:
    toy = start_endpoint(Model("zh"))
    built = run(toy.base_url, language="zh", rows=10)
    assert built.made == 10
    assert built.refused["too_short"] > 0
    assert built.refused["not_for_text"] > 0
    assert all(re.search("[\u4e00-\u9fff]", row["instruction"]) for row in rows())
    assert {row["output"] for row in rows()} <= {"这是一个回答。", "另一个回答。"}
    assert toy.prompts[0].startswith("请想出一系列任务：")


def test_an_interrupted_recipe_continues_and_pays_for_nothing_twice(
    here: Path, start_endpoint: Callable[..., Any]
) -> None:
    whole = start_endpoint(Model())
    expected = run(whole.base_url)
    expected_rows = rows()
    for file in [*Path("inbox/built/new").glob("*"), *Path(".strop/build").glob("*")]:
        file.unlink()
    model = Model()
    model.fails_after = len(whole.prompts) // 2
    toy = start_endpoint(model)
    with pytest.raises(SourceError, match="no money left"):
        run(toy.base_url)
    refused = toy.prompts[model.fails_after :]
    model.fails_after = 10**9
    again = run(toy.base_url)
    assert again.refused == expected.refused
    assert rows() == expected_rows
    assert len(toy.prompts) - len(refused) == len(whole.prompts)
    prompts_before = len(toy.prompts)
    assert run(toy.base_url, rows=40).made == 40, "a larger target continues from there"
    assert len(toy.prompts) > prompts_before
    assert len(rows()) == 40


def test_a_dry_run_reports_the_number_of_the_next_prompts(here: Path, start_endpoint: Callable[..., Any]) -> None:
    toy = start_endpoint(Model())
    built = run(toy.base_url, dry_run=True, prompts_per_round=5)
    assert (built.not_generated, built.made, toy.prompts) == (5, 0, [])


def test_a_model_that_generates_only_useless_tasks_ends_with_the_rounds(
    here: Path, start_endpoint: Callable[..., Any]
) -> None:
    toy = start_endpoint(lambda prompt: "???")
    built = run(toy.base_url, max_rounds=2, prompts_per_round=3)
    assert (built.made, built.file) == (0, None)
    assert built.refused == {"too_short": 6}
    assert len(toy.prompts) == 6


def test_too_few_or_invalid_seeds_are_reported(here: Path) -> None:
    write_jsonl(here / "seeds.jsonl", seeds()[:3])
    with pytest.raises(ConfigError, match="3 seed tasks"):
        run("http://127.0.0.1:1/v1")
    (here / "seeds.jsonl").write_text('{"instruction": "x", "instances": [{"input": ""}]}\n')
    with pytest.raises(SourceError, match=r"seeds\.jsonl line 1: not a seed task"):
        run("http://127.0.0.1:1/v1")
    (here / "seeds.jsonl").unlink()
    with pytest.raises(SourceError, match=r"seeds\.jsonl: cannot be read"):
        run("http://127.0.0.1:1/v1")


def test_the_seed_tasks_of_the_paper_are_read_and_used(here: Path, start_endpoint: Callable[..., Any]) -> None:
    path = real("self_instruct/seed_tasks.jsonl")
    tasks = read_seeds(str(path))
    assert len(tasks) == 175
    assert sum(task.is_classification for task in tasks) == 26
    toy = start_endpoint(Model())
    assert run(toy.base_url, seeds=str(path), rows=5).made == 5
    shown = {task.instruction.split()[0] for task in tasks}
    assert toy.prompts[0].split("Task 1: ")[1].split()[0] in shown
