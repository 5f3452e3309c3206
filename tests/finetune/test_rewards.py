"""Objective `reward`: a scalar head ranks answers as in the pairs, with equal scores after loading and in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from support.killed_training import kill_at
from support.tiny_models import make_tiny_llama
from support.toypreferences import curves, prepare
from transformers import AutoTokenizer

from tasks import paths
from tasks.base.load import labels_of, load_trained
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.dataset.rendered import TEST, read_rows
from tasks.finetune import stage
from tasks.finetune.objectives import reward_model
from tasks.finetune.objectives.trl_trainer import TokenTrainer


def score(model: Any, ids: list[int]) -> float:
    with torch.inference_mode():
        return float(model(torch.tensor([ids])).logits[0, 0])


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_gpt2"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_reward_model_ranks_unseen_pairs(method: str, base: str, project: Path, request: Any) -> None:
    more = {"objective": "reward", "method": method, "max_steps": 15, "micro_batch_rows": 4}
    stage.run(prepare(project, request.getfixturevalue(base), **more))
    assert labels_of(paths.MODEL) == ("reward",)
    model = load_trained(paths.MODEL, read_base())
    pairs = pq.read_table(TEST).to_pylist()
    assert len(pairs) > 2
    for row in pairs:
        assert score(model, row["chosen_ids"]) > score(model, row["rejected_ids"])
    assert [point for point in curves() if "valid_loss" in point][-1]["valid_accuracy"] == 1


def test_the_model_gets_exactly_the_rendered_tokens(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, objective="reward", max_steps=4)
    seen: list[list[int]] = []
    build = reward_model.build_model

    def build_with_hook(*arguments: Any, **named: Any) -> Any:
        model = build(*arguments, **named)
        model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0].tolist()))
        return model

    monkeypatch.setattr(reward_model, "build_model", build_with_hook)
    stage.run(config)
    rows = [row for split in ("train", "valid") for row in read_rows(split, "ranked").to_pylist()]
    sequences = {tuple(row["prompt_ids"] + row[name]) for row in rows for name in ("chosen_ids", "rejected_ids")}
    assert len(seen) >= 8
    for ids in seen:
        assert any(tuple(ids[:n]) in sequences and not any(ids[n:]) for n in {len(each) for each in sequences})


@pytest.mark.parametrize("method", ["lora", "full"])
def test_scores_are_equal_after_loading_and_in_batches(
    method: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the tokenizer has a padding token that the model's configuration does not know of."""
    folder = make_tiny_llama(tmp_path / "padding")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(1)
    tokenizer.save_pretrained(folder)
    config = prepare(project, folder, objective="reward", method=method, max_steps=3, micro_batch_rows=4)
    scores: dict[tuple[int, ...], float] = {}
    train = TokenTrainer.train

    def train_and_score(self: TokenTrainer, *arguments: Any, **named: Any) -> None:
        train(self, *arguments, **named)
        self.model.eval()
        for row in pq.read_table(TEST).to_pylist():
            scores[tuple(row["chosen_ids"])] = score(self.model, row["chosen_ids"])

    monkeypatch.setattr(TokenTrainer, "train", train_and_score)
    stage.run(config)
    model = load_trained(paths.MODEL, read_base())
    assert scores
    for ids, value in scores.items():
        assert score(model, list(ids)) == pytest.approx(value, abs=1e-5)
    batch = reward_model.collate_ranked(read_rows("valid", "ranked").to_pylist(), model.config.pad_token_id)
    with torch.inference_mode():
        together = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    for ids, mask, value in zip(batch["input_ids"], batch["attention_mask"], together.tolist(), strict=True):
        assert score(model, ids[mask == 1].tolist()) == pytest.approx(value, abs=1e-5)


def test_killed_and_run_again_it_ends_with_the_same_weights_and_curves(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sft = {"max_steps": 2, "precision": "fp32", "lora": {"rank": 4}}
    more = {"before": [sft], "checkpoint_every_steps": 3, "micro_batch_rows": 2, "gradient_accumulation_steps": 2}
    config = prepare(project, tiny_llama, objective="reward", max_steps=10, **more)
    stage.run(config)
    digest, curve = weights_digest(paths.MODEL), (paths.MODEL / "curves.jsonl").read_bytes()
    kill_at(monkeypatch, 9, "loss", config)
    stage.run(config)
    assert weights_digest(paths.MODEL) == digest
    assert (paths.MODEL / "curves.jsonl").read_bytes() == curve
