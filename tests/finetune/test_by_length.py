"""`batches: by_length`: the losses of packed rows, batches of similar length, and the same weights after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.dataset.rendered import read_rendered
from tasks.errors import ConfigError
from tasks.finetune import stage
from tasks.finetune.loop.progress_callback import ProgressCallback
from tasks.finetune.step.samplers import RowSampler, SingleExamples


def curve(name: str) -> list[float]:
    points = [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]
    return [point[name] for point in points if name in point]


@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_the_losses_are_those_of_packed_rows_where_a_batch_holds_the_same_examples(
    method: str, project: Path, tiny_llama: Path
) -> None:
    settings: dict[str, Any] = {"method": method, "max_steps": None, "epochs": 3.0, "gradient_accumulation_steps": 100}
    stage.run(prepare(project, tiny_llama, **settings))
    losses, valid = curve("loss"), curve("valid_loss")
    assert len(losses) == 3
    stage.run(prepare(project, tiny_llama, **settings, micro_batch_rows=4, batches="by_length"))
    assert curve("loss") == pytest.approx(losses, rel=1e-4)
    assert curve("valid_loss") == pytest.approx(valid, rel=1e-4)


@pytest.mark.parametrize(("batches", "least", "most"), [("packed", 0.0, 0.0), ("by_length", 0.001, 0.4)])
def test_the_share_of_padding_is_logged_at_every_step(
    batches: str, least: float, most: float, project: Path, tiny_llama: Path
) -> None:
    stage.run(prepare(project, tiny_llama, batches=batches, micro_batch_rows=4))
    events = [json.loads(line) for line in (paths.EVENTS / "finetune.jsonl").read_text().splitlines()]
    shares = [event["padding_share"] for event in events if "loss" in event]
    assert len(shares) == 4
    assert all(least <= share <= most for share in shares)


def test_examples_of_a_batch_are_of_similar_length(project: Path, tiny_gpt2: Path) -> None:
    prepare(project, tiny_gpt2)
    examples = SingleExamples(read_rendered("train"))
    order = list(RowSampler(len(examples), 4, 1, 17, examples.lengths))
    assert sorted(order) == list(range(len(examples)))
    lengths = [len(examples[row]["input_ids"]) for row in order]
    whole = np.array(lengths[: len(lengths) // 4 * 4]).reshape(-1, 4)
    padded, shuffled = (
        (whole.max(1)[:, None] - whole).sum(),
        np.random.default_rng(0).permutation(whole.flat).reshape(-1, 4),
    )
    assert padded < (shuffled.max(1)[:, None] - shuffled).sum() / 3
    assert list(whole[:, 0]) != sorted(whole[:, 0]), "the batches themselves are in no order"


def test_a_killed_training_by_length_ends_with_the_weights_of_an_uninterrupted_one(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "batches": "by_length",
        "micro_batch_rows": 16,
        "epochs": 3.0,
        "max_steps": None,
        "lora": {"dropout": 0.1},
    }
    config = prepare(project, tiny_llama, **settings, checkpoint_every_steps=1)
    stage.run(config)
    digest, steps = trained_digest(), len(curve("loss"))
    assert steps % 3 == 0
    on_log = ProgressCallback.on_log

    def killed(self: Any, args: Any, state: Any, *arguments: Any, **named: Any) -> None:
        on_log(self, args, state, *arguments, **named)
        if state.global_step == steps // 3 + 2:  # in the second epoch
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressCallback, "on_log", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config)
    stage.run(config)
    assert trained_digest() == digest


def test_by_length_is_rejected_for_other_objectives(project: Path, tiny_gpt2: Path) -> None:
    with pytest.raises(ConfigError, match="batches: by_length is for objective: sft and pretrain, not dpo"):
        prepare(project, tiny_gpt2, objective="dpo", batches="by_length")


def test_the_share_of_padding_is_that_of_the_training_rows(project: Path, tiny_llama: Path) -> None:
    def shares(evaluations: int) -> list[float]:
        stage.run(
            prepare(
                project,
                tiny_llama,
                batches="by_length",
                micro_batch_rows=4,
                evaluations_per_epoch=evaluations,
                max_steps=8,
            )
        )
        events = [json.loads(line) for line in (paths.EVENTS / "finetune.jsonl").read_text().splitlines()]
        return [event["padding_share"] for event in events if "loss" in event]

    assert shares(evaluations=100) == shares(evaluations=0)
