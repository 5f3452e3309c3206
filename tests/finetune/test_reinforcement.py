"""Objective `grpo`: answers are sampled for the rendered prompts, and rewarded and trained on as the settings define."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.killed_training import kill_at
from support.toypreferences import curves, prepare

from tasks import paths
from tasks.base.load import load_base, load_tokenizer, load_trained
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.dataset.rendered import read_rows
from tasks.errors import ConfigError, TrainingError
from tasks.finetune import stage
from tasks.finetune.loop.progress_callback import CountingCollator, ProgressCallback
from tasks.finetune.objectives import grpo as reinforcement
from tasks.finetune.objectives import reward_functions as functions
from tasks.finetune.objectives.grpo import PromptSampler
from tasks.finetune.objectives.reward_functions import reward_functions
from tasks.finetune.settings import FinetuneSettings
from tasks.finetune.work import Work
from tasks.runtime.files import read_json
from tasks.sandbox.run_programs import Outcome, Program

ROWS = {
    "kind": ["qa", "classification", "classification", "qa"],
    "target": ["City 4.", "sport", "体育", "它叫城市3。"],
    "question": ["Which city is it?", "Which topic?", "什么主题？", "这是什么城市？"],
    "before": ["", "The topic is ", "", ""],
    "after": ["", ".", "", ""],
    "opens_thought": [False, False, False, True],
}


def grpo(*rewards: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Settings of short answers with these rewards."""
    section = {"answers": 4, "max_answer_tokens": 6, "rewards": list(rewards), **more.pop("grpo", {})}
    return {"objective": "grpo", "max_steps": 4, "grpo": section, **more}


def settings_of(*rewards: dict[str, Any]) -> FinetuneSettings:
    return FinetuneSettings.model_validate({"objective": "grpo", "grpo": {"rewards": rewards}}, strict=False)


def functions_of(base: Path, *rewards: dict[str, Any]) -> list[Any]:
    return reward_functions(Work(settings_of(*rewards), record=None, precision="fp32", checkpoints=base))  # type: ignore[arg-type]


def test_answers_are_rewarded_by_the_rules_of_evaluation(tmp_path: Path) -> None:
    exact, score = functions_of(tmp_path, {"kind": "exact_match"}, {"kind": "score"})
    assert exact(completions=["<think>4?</think>city 4", "sport", "体育。", "城市3"], **ROWS) == [1, 1, 1, 0]
    assert exact(completions=["", "the topic is tech.", "科技", "想。</think>它叫城市3！"], **ROWS) == [0, 0, 0, 1]
    scores = score(completions=["City 5.", "sport", "体 育", "想。\n</think>\n\n叫城市3"], **ROWS)
    assert scores[0] == pytest.approx(0.5)
    assert scores[1] == 1
    assert 0 < scores[3] < 1


def test_a_format_must_match_the_whole_answer(tmp_path: Path) -> None:
    numbers, lines = functions_of(
        tmp_path, {"kind": "format", "pattern": r"\d+"}, {"kind": "format", "pattern": r"(?s)答：.+"}
    )
    assert numbers(completions=["12", "12.", "a12", ""]) == [1, 0, 0, 0]
    assert lines(completions=["答：\n好", "答：", "好，答：好"]) == [1, 0, 0]
    assert (numbers.__name__, lines.__name__) == ("format", "format_2")


def test_code_is_rewarded_if_it_passes_its_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class KnownOutcomes:
        def run(self, programs: list[Program]) -> list[Outcome]:
            return [Outcome("passed" if self._passes(each) else "wrong") for each in programs]

        def _passes(self, program: Program) -> bool:
            return "return x" in "".join(program.texts) or "assert" not in program.tests

    monkeypatch.setattr(functions, "open_sandbox", lambda *_, **__: KnownOutcomes())
    (tests,) = functions_of(tmp_path, {"kind": "tests"})
    answers = ["def f(x): return x", "说。</think>return x", "def f(x): return 1", "def f(x): return x", "return x"]
    row = {"tests": ["assert f(1) == 1"] * 3 + ["", "def test_f(): f(1)"], "stub": ["", "def f(x):", "", "", ""]}
    opens = [False, True, False, False, False]
    assert tests(completions=answers, opens_thought=opens, kind=["code"] * 5, **row) == [1, 1, 0, 0, 0]
    assert "no reward for rows with tests that pass without any answer (1)" in caplog.text


def test_grpo_raises_the_reward(project: Path, tiny_llama: Path) -> None:
    letters = {"kind": "format", "pattern": "(?s)[a-z].*"}
    size = {"max_steps": 25, "micro_batch_rows": 4, "learning_rate": 0.01}
    few = {"answers": 8, "max_answer_tokens": 2}
    stage.run(prepare(project, tiny_llama, **grpo(letters, method="full", grpo=few, **size)))
    rewards = [point["reward"] for point in curves() if "reward" in point]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3
    assert any("valid_reward" in point for point in curves())


def test_every_reward_is_logged_and_their_sum_is_weighted(project: Path, tiny_llama: Path) -> None:
    letters, score = {"kind": "format", "pattern": "(?s)[a-z].*", "weight": 2.0}, {"kind": "score", "weight": -0.5}
    stage.run(prepare(project, tiny_llama, **grpo(letters, score)))
    for point in curves():
        prefix = "valid_" if "valid_loss" in point else ""
        means = [point[f"{prefix}rewards/{name}/mean"] for name in ("format", "score")]
        assert point[f"{prefix}reward"] == pytest.approx(2 * means[0] - 0.5 * means[1], abs=1e-5)


def test_answers_are_sampled_for_the_rendered_prompts(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, **grpo({"kind": "score"}, micro_batch_rows=2))
    seen: list[list[int]] = []
    build = reinforcement.build_model

    def build_with_recorder(work: Work) -> Any:
        model = build(work)
        generate = model.generate

        def generate_and_record(**inputs: Any) -> Any:
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
                seen.append(ids[mask == 1].tolist())
            return generate(**inputs)

        model.generate = generate_and_record
        return model

    monkeypatch.setattr(reinforcement, "build_model", build_with_recorder)
    stage.run(config)
    prompts = [row["prompt_ids"] for split in ("train", "valid") for row in read_rows(split, "prompts").to_pylist()]
    counts = Counter(tuple(ids) for ids in seen)
    assert set(counts) <= {tuple(ids) for ids in prompts}
    assert max(counts.values()) == 4  # the number of answers per prompt


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_killed_and_run_again_it_ends_with_the_same_weights_and_curves(
    method: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"micro_batch_rows": 4, "gradient_accumulation_steps": 2, "checkpoint_every_steps": 3, "max_steps": 9}
    before = [{"method": method, "max_steps": 2, "precision": "fp32", "lora": {"rank": 4}}]
    letters = {"kind": "format", "pattern": "(?s)[a-z].*"}
    config = prepare(project, tiny_llama, **grpo(letters, method=method, before=before, **size))
    stage.run(config)
    digest, curve = weights_digest(paths.MODEL), (paths.MODEL / "curves.jsonl").read_bytes()
    kill_at(monkeypatch, 8, "loss", config)
    stage.run(config)
    assert weights_digest(paths.MODEL) == digest
    assert (paths.MODEL / "curves.jsonl").read_bytes() == curve
    assert read_json(paths.TRAINING_REPORT)["epochs"] > 1


def test_a_reward_model_of_an_earlier_training_scores_answers(project: Path, tiny_llama: Path) -> None:
    small = {"precision": "fp32", "max_steps": 2, "lora": {"rank": 4}}
    before = [small, {"objective": "reward", **small}]
    settings = grpo({"kind": "model"}, {"kind": "model", "weight": 0.5}, before=before)
    stage.run(prepare(project, tiny_llama, **settings))
    report = read_json(paths.TRAINING_REPORT)
    assert [training["objective"] for training in report["before"]] == ["sft", "reward"]
    for point in curves():
        if "reward" in point:
            assert point["rewards/model/mean"] == point["rewards/model_2/mean"] != 0
    assert load_trained(paths.MODEL, read_base()).peft_config.keys() == {"default"}


def test_a_reward_model_in_a_folder_scores_prompts_with_answers(project: Path, tiny_llama: Path) -> None:
    small = {"objective": "reward", "max_steps": 2}
    stage.run(prepare(project, tiny_llama, **small))
    paths.MODEL.rename(project / "judge")
    settings = settings_of({"kind": "model", "model": "judge"})
    work = Work(settings, read_base(), "fp32", project)
    (judge,) = reward_functions(work)
    prompts, answers = [[5, 6, 7], [8]], [[9, 10, 0], [11]]
    model = load_trained(project / "judge", read_base())
    with torch.inference_mode():
        alone = [float(model(torch.tensor([p + a])).logits[0, 0]) for p, a in zip(prompts, answers, strict=True)]
    assert judge(prompts=prompts, completion_ids=answers) == pytest.approx(alone, abs=1e-5)


def test_another_kind_of_model_as_reward_model_is_reported_before_any_training(project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama, max_steps=1))
    paths.MODEL.rename(project / "writer")
    before = [{"max_steps": 1, "precision": "fp32"}]
    config = prepare(project, tiny_llama, **grpo({"kind": "model", "model": "writer"}, before=before))
    with pytest.raises(TrainingError, match="writer holds no reward model"):
        stage.run(config)
    assert not paths.MODEL.exists()
    assert not list(paths.CHECKPOINTS.glob("*/training-1/model"))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"kind": "model"}, "kind: model without a reward model"),
        ({"kind": "format", "pattern": "(a"}, "`pattern`: not a regular expression: missing"),
        ({"kind": "format"}, "`pattern` is required for kind: format, and only allowed there"),
        ({"kind": "score", "model": "3"}, "`model` is only allowed for kind: model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_reward_is_rejected_before_any_work(
    reward: dict[str, Any], message: str, project: Path, tiny_llama: Path
) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        prepare(project, tiny_llama, **grpo(reward))


def test_answers_beyond_the_context_length_are_reported(project: Path, tiny_gpt2: Path) -> None:
    settings = grpo({"kind": "score"}, grpo={"max_answer_tokens": 500})
    with pytest.raises(TrainingError, match="the context length of the model is 512"):
        stage.run(prepare(project, tiny_gpt2, **settings))


def test_answers_to_a_prompt_are_sampled_together_and_each_epoch_has_another_order() -> None:
    groups = PromptSampler(prompts=5, answers=3, group_prompts=2, repeats=2, seed=1)
    first = list(groups)
    assert len(first) == len(groups) == 6 * 3 * 2
    assert set(first) == set(range(5))
    for place in range(0, len(first), 12):  # two prompts, three times each; and once more
        assert first[place : place + 6] == first[place + 6 : place + 12]
        assert len(set(first[place : place + 3])) == len(set(first[place + 3 : place + 6])) == 1
    groups.set_epoch(1)
    assert list(groups) != first
    assert list(PromptSampler(prompts=5, answers=3, group_prompts=2, repeats=2, seed=1)) == first


def test_a_left_padded_answer_has_the_likelihood_of_its_generation(project: Path, tiny_gpt2: Path) -> None:
    """Positions are learnt ones in GPT-2: padding must not move them."""
    config = prepare(project, tiny_gpt2, **grpo({"kind": "score"}))
    work = Work(config.finetune, read_base(), "fp32", project / "checkpoints")
    trainer = reinforcement.prepare(work).make_trainer([])
    ids, answer = [[5, 6, 7, 8, 9], [11]], [12, 13]
    padded = torch.tensor([ids[0] + answer, [0, 0, 0, 0, *ids[1], *answer]])
    mask = torch.tensor([[1] * 7, [0] * 4 + [1] * 3])
    with torch.inference_mode():
        log_probabilities, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, padded, mask, 2)
        logits = load_base(read_base())(torch.tensor([ids[1] + answer])).logits[0, -3:-1]
    alone = logits.log_softmax(-1)[range(2), answer]
    torch.testing.assert_close(log_probabilities[1], alone, rtol=1e-4, atol=1e-4)
    assert load_tokenizer(tiny_gpt2).eos_token_id == 0


def test_speed_counts_the_generated_tokens(project: Path, tiny_llama: Path) -> None:
    """Not the maximum: answers with an early end token are short."""
    letters = {"kind": "format", "pattern": "(?s)[a-z].*"}
    progress: Any = SimpleNamespace(done=0, resume=lambda done: None)
    counted = ProgressCallback(progress, 1000.0, counter=CountingCollator(list))
    state = SimpleNamespace(global_step=0, log_history=[])
    counted.on_train_begin(None, state, None)
    assert counted._trained_tokens(1000.0, {"num_tokens": 300.0}) == 300
    assert counted._trained_tokens(1000.0, {"num_tokens": 700.0}) == 400
    resumed = ProgressCallback(progress, 1000.0, counter=CountingCollator(list))
    resumed.on_train_begin(None, SimpleNamespace(global_step=5, log_history=[]), None)
    assert resumed._trained_tokens(1000.0, {"num_tokens": 300.0}) == 1000
    assert resumed._trained_tokens(1000.0, {"num_tokens": 450.0}) == 150
    stage.run(prepare(project, tiny_llama, **grpo(letters)))
    events = [json.loads(line) for line in (paths.EVENTS / "finetune.jsonl").read_text().splitlines()]
    assert all(event["tokens_per_second"] > 0 for event in events if "loss" in event)
