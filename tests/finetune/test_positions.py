"""Rows longer than the context length are reported before the first step, for every objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.toypreferences import prepare
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from tasks import paths
from tasks.base.pin import read_base
from tasks.errors import TrainingError
from tasks.finetune import stage
from tasks.finetune.loop import train
from tasks.finetune.loop.train import prepare as prepare_objective
from tasks.finetune.model.context_length import max_row_tokens
from tasks.finetune.work import Work

REWARDED = {"grpo": {"answers": 2, "max_answer_tokens": 8, "rewards": [{"kind": "score"}]}}


def lengthen(form: str, split: str) -> None:
    """Gives the split one row, of 600 tokens and more."""
    folder = paths.RENDERED / form
    if form == "answers":
        arrays = {"input_ids": np.zeros(600, np.int32), "loss_mask": np.ones(600, np.uint8)}
        arrays |= {"examples": np.array([0, 600]), "packs": np.array([0]), "ids": np.array([b"0" * 32], "S32")}
        for name, values in arrays.items():
            np.save(folder / split / f"{name}.npy", values)
        return
    table = pq.read_table(folder / f"{split}.parquet")
    row = {**table.to_pylist()[0], "prompt_ids": [5] * 600}
    pq.write_table(pa.Table.from_pylist([row], table.schema), folder / f"{split}.parquet")


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("objective", ["sft", "dpo", "orpo", "kto", "reward", "grpo"])
def test_a_row_longer_than_the_context_is_reported_before_the_first_step(
    objective: str, split: str, project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = REWARDED if objective == "grpo" else {}
    config = prepare(project, tiny_gpt2, objective=objective, micro_batch_rows=2, **more)
    lengthen(config.finetune.spec.form, split)
    monkeypatch.setattr(train, "track", lambda *_, **__: pytest.fail("it began to work"))
    with pytest.raises(TrainingError, match=r"6\d\d tokens.* 512.*Lower it.*") as error:
        stage.run(config)
    assert "render.max_length_tokens" in str(error.value)


def test_virtual_tokens_use_context_and_full_start_weights_set_their_own_limit(project: Path, tiny_gpt2: Path) -> None:
    config = prepare(project, tiny_gpt2, method="prompt", prompt={"virtual_tokens": 12})
    work = Work(config.finetune, read_base(), "fp32", project / "checkpoints")
    assert max_row_tokens(work) == 500
    start = project / "start"
    GPT2LMHeadModel(GPT2Config.from_pretrained(tiny_gpt2, n_positions=16)).save_pretrained(start)
    AutoTokenizer.from_pretrained(tiny_gpt2).save_pretrained(start)
    lora = replace(work, settings=work.settings.model_copy(update={"method": "lora"}))
    assert max_row_tokens(lora) == 512
    with pytest.raises(TrainingError, match="the context length of the model is 16"):
        prepare_objective(replace(lora, start=start))
