"""A prompt that the examples of a batch share is computed once, and changes neither loss nor gradient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.toy_training import prepare

from tasks import paths
from tasks.base.load import load_base
from tasks.base.pin import read_base
from tasks.dataset.rendered import read_rendered
from tasks.finetune import stage
from tasks.finetune.loop.progress_callback import CountingCollator
from tasks.finetune.step.packed_attention import PackedRows, collate, collate_shared_prompt, use_packed_attention
from tasks.finetune.step.shared_prefix import (
    IGNORED,
    MIN_SHARED_TOKENS,
    may_share,
    predicting_positions,
    prompt_tokens,
    repeated_tokens,
    share_prompt,
)

SHARED = list(range(10, 10 + MIN_SHARED_TOKENS))


def batch_of(examples: list[list[int]], untrained: list[int]) -> dict[str, Any]:
    """A batch of `collate`, where the given number of tokens at the start of each example is not trained."""
    rows = [
        {
            "input_ids": np.array(example, np.int32),
            "loss_mask": np.array([place >= free for place in range(len(example))], np.uint8),
            "lengths": np.array([len(example)]),
            "row": number,
        }
        for number, (example, free) in enumerate(zip(examples, untrained, strict=True))
    ]
    return collate(rows)


def shared(batch: dict[str, Any]) -> int:
    return prompt_tokens(batch["cu_seq_lens_q"])


def ids_and_positions(batch: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """The ids and positions of each example, with the shared prompt before it where there is one."""
    edges, prompt = batch["cu_seq_lens_q"].tolist(), shared(batch)
    ids, positions = batch["input_ids"][0].tolist(), batch["position_ids"][0].tolist()
    starts = edges[1:-1] if prompt else edges[:-1]
    ends = edges[2:] if prompt else edges[1:]
    return [
        (ids[:prompt] + ids[first:last], positions[:prompt] + positions[first:last])
        for first, last in zip(starts, ends, strict=True)
    ]


TOKENS = st.lists(st.integers(10, 12), min_size=1, max_size=6)


@given(st.lists(st.tuples(TOKENS, st.integers(0, 20)), min_size=1, max_size=6), st.booleans())
def test_sharing_keeps_all_tokens_and_predicts_each_target_from_the_previous_token(
    subjects: list[tuple[list[int], int]], begins_alike: bool
) -> None:
    examples = [[*(SHARED if begins_alike else []), *own] for own, _ in subjects]
    plain = batch_of(examples, [free for _, free in subjects])
    short = share_prompt(plain)
    assert ids_and_positions(short) == ids_and_positions(plain)
    assert int((short["labels"] != IGNORED).sum()) == int((plain["labels"] != IGNORED).sum())
    assert plain["input_ids"].numel() - short["input_ids"].numel() == repeated_tokens(short["cu_seq_lens_q"])

    def learned(batch: dict[str, Any]) -> list[tuple[int, int, int]]:
        labels, ids, positions = batch["labels"][0], batch["input_ids"][0], batch["position_ids"][0]
        trained = (labels != IGNORED).nonzero()[:, 0]
        trained = trained[positions[trained] > 0]  # the first token of all follows nothing
        places = predicting_positions(trained, batch["cu_seq_lens_q"])
        assert torch.equal(positions[places], positions[trained] - 1)
        return list(zip(ids[places].tolist(), labels[trained].tolist(), positions[trained].tolist(), strict=True))

    assert learned(short) == learned(plain)


def test_a_trained_or_too_short_prefix_is_not_shared() -> None:
    examples = [[*SHARED, 1, 2], [*SHARED, 3]]
    assert shared(share_prompt(batch_of(examples, [9, 9]))) == MIN_SHARED_TOKENS
    assert shared(share_prompt(batch_of(examples, [9, MIN_SHARED_TOKENS]))) == MIN_SHARED_TOKENS
    assert not shared(share_prompt(batch_of(examples, [9, MIN_SHARED_TOKENS - 1])))
    assert not shared(share_prompt(batch_of([examples[0]], [9])))
    assert not shared(share_prompt(batch_of([SHARED, SHARED], [8, 8]))), "one token of each example remains"


@pytest.mark.parametrize("longest", [40, 600])
@pytest.mark.parametrize("base", ["tiny_gpt2", "tiny_llama"])
def test_loss_and_gradient_equal_those_of_single_examples(base: str, longest: int, request: Any, project: Path) -> None:
    """Short examples use the batched attention, long ones the fused kernel."""
    prepare(project, request.getfixturevalue(base))
    draw = np.random.default_rng(0)
    lengths = [longest // 2, 5, longest // 4] if longest > 256 else [9, 20, 14, 1]
    examples = [[*SHARED, *draw.integers(1, 300, length).tolist()] for length in lengths]
    plain = batch_of(examples, [len(SHARED) + 2, len(SHARED), len(SHARED) + 1, len(SHARED)][: len(examples)])
    results = []
    for batch in (plain, share_prompt(plain)):
        model = load_base(read_base())
        use_packed_attention(model)
        batch = {**batch}
        labels, _ = batch.pop("labels")[0], batch.pop("rows")
        trained = (labels != IGNORED).nonzero()[:, 0]
        places = predicting_positions(trained, batch["cu_seq_lens_q"])
        logits = model(**batch, logits_to_keep=places).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, labels[trained])
        loss.backward()
        results.append([loss.detach(), *(value.grad for value in model.parameters() if value.grad is not None)])
    assert shared(share_prompt(plain))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"lora": {"dropout": 0.1}}, {"dropout": 0.1}, {"neftune_alpha": 5.0}, {"loss_on": "all"}],
    ids=lambda settings: next(iter(settings)),
)
def test_with_randomness_or_a_loss_on_the_prompt_nothing_is_shared(
    settings: dict[str, Any], project: Path, tiny_llama: Path
) -> None:
    assert may_share(prepare(project, tiny_llama).finetune, learns_all=False)
    other = prepare(project, tiny_llama, **settings).finetune
    assert not may_share(other, learns_all=other.loss_on == "all")


@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}, {"method": "full"}], ids=str)
def test_a_training_has_the_curves_of_one_that_shares_nothing(
    settings: dict[str, Any], project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, precision="fp32", max_steps=6, **settings)
    assert shared(collate_shared_prompt([PackedRows(read_rendered("train"))[0]]))
    curves, shares = [], []
    for may in (True, False):
        monkeypatch.setattr("tasks.finetune.objectives.sft.may_share", lambda *_, answer=may, **__: answer)
        stage.run(config)
        curves.append([json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()])
        events = [json.loads(line) for line in (paths.EVENTS / "finetune.jsonl").read_text().splitlines()]
        shares.append(max(event.get("shared_prompt_share", 0.0) for event in events))
    assert shares[0] > 0.05
    assert shares[1] == 0
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_shared_prompts_are_counted_separately_from_padding() -> None:
    count = CountingCollator(lambda rows: share_prompt(batch_of(rows, [9] * len(rows))))
    count([[*SHARED, 1, 2], [*SHARED, 3, 4], [*SHARED, 5, 6]])
    assert count.padding_share == 0
    assert count.repeated_share == 16 / 30
