"""The embedded engine: greedy answers that do not depend on how rows are batched, and equal those of transformers."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from tasks.base.generation import Answer
from tasks.inference import embedded
from tasks.inference.batches import generate_batch
from tasks.inference.decoder import SlotDecoder
from tasks.inference.slots import use_slots

NEW_TOKENS = 12


def prompts_of(count: int) -> list[list[int]]:
    """Prompts of 1 to 90 tokens; most begin with one of two prefixes."""
    chance = random.Random(0)
    prefixes = [[chance.randrange(1, 400) for _ in range(length)] for length in (21, 40)] + [[]]
    return [
        prefixes[number % 3] + [chance.randrange(1, 400) for _ in range(chance.randint(1, 50))]
        for number in range(count)
    ]


def answer_alone(model: Any, prompt: list[int], ends: list[int], limit: int = NEW_TOKENS) -> list[int]:
    return generate_batch(model, [prompt], limit, ends=ends, padding=0)[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen"])
def test_tokens_do_not_depend_on_batch_size_order_or_number_of_processes(
    name: str, request: pytest.FixtureRequest, open_engine: Any
) -> None:
    model, tokenizer = request.getfixturevalue(name)
    prompts = prompts_of(33)
    expected = open_engine(model, tokenizer, rows=32).generate(prompts, NEW_TOKENS)
    for processes, rows in ((1, 1), (1, 7), (2, 1), (2, 7), (5, 1), (5, 32)):
        answers = open_engine(model, tokenizer, rows=rows, processes=processes).generate(prompts, NEW_TOKENS)
        assert answers == expected, f"{processes} processes, {rows} rows at once"
    assert open_engine(model, tokenizer, rows=7).generate(prompts[::-1], NEW_TOKENS) == expected[::-1]
    assert len({answer.text for answer in expected}) > 10


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen"])
def test_answers_equal_those_of_transformers_prompt_by_prompt(
    name: str, request: pytest.FixtureRequest, open_engine: Any
) -> None:
    model, tokenizer = request.getfixturevalue(name)
    prompts = prompts_of(12)
    answers = open_engine(model, tokenizer).generate(prompts, NEW_TOKENS)
    alone = [answer_alone(model, prompt, [0]) for prompt in prompts]
    assert [answer.text for answer in answers] == [
        tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in alone
    ]
    assert model.config._attn_implementation == "sdpa", "the model computes as before"


def test_an_answer_ends_at_an_end_token_or_is_cut_and_makes_room_for_the_next_row(llama: Any) -> None:
    model, _ = llama
    prompts = prompts_of(6)
    alone = [answer_alone(model, prompt, []) for prompt in prompts]
    ends = [alone[0][3], alone[1][5]]
    expected = [answer_alone(model, prompt, ends) for prompt in prompts]
    assert min(map(len, expected)) < NEW_TOKENS == max(map(len, expected))
    answers: dict[int, list[int]] = {}
    rows = iter(range(len(prompts)))
    with use_slots(model):
        decoder = SlotDecoder(model, ends, rows=2, width=128)
        decoder.run(prompts, NEW_TOKENS, lambda: next(rows, None), answers.__setitem__)
    assert [answers[index] for index in range(len(prompts))] == expected
    assert decoder.steps < 3 * NEW_TOKENS, "batch by batch, each of three batches would take the longest answer's steps"
    assert decoder.active == []


def test_a_prefix_that_a_row_in_the_batch_shares_is_copied(llama: Any) -> None:
    model, _ = llama
    prefix = list(range(1, 41))
    prompts = [[*prefix, 50 + number, 60] for number in range(4)]
    answers: dict[int, list[int]] = {}
    rows = iter(range(4))
    with use_slots(model):
        decoder = SlotDecoder(model, [], rows=4, width=64)
        decoder.run(prompts, 5, lambda: next(rows, None), answers.__setitem__)
    assert decoder.copied_tokens == 3 * len(prefix)
    assert [answers[index] for index in range(4)] == [answer_alone(model, prompt, [], 5) for prompt in prompts]


def test_the_model_computes_only_tokens_of_rows_and_at_least_eight(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = llama
    prompts = [[number + 1] * (30 + number) for number in range(9)]
    shapes: list[tuple[int, ...]] = []
    body, rows = model.model.forward, iter(range(9))
    monkeypatch.setattr(
        model.model, "forward", lambda **inputs: shapes.append(tuple(inputs["input_ids"].shape)) or body(**inputs)
    )
    with use_slots(model):
        decoder = SlotDecoder(model, [], rows=9, width=64)
        decoder.run(prompts, 2, lambda: next(rows, None), lambda *_: None)
    assert shapes == [(1, sum(map(len, prompts)) - 9), (1, 9), (1, 9)]
    shapes.clear()
    with use_slots(model):
        decoder = SlotDecoder(model, [], rows=2, width=64)
        rows = iter(range(2))
        decoder.run([[1, 2], [3, 4]], 2, lambda: next(rows, None), lambda *_: None)
    assert shapes == [(1, 8)] * 3


def test_cut_answers_are_marked_and_each_answer_is_passed_on_once(llama: Any, open_engine: Any) -> None:
    model, tokenizer = llama
    prompts = prompts_of(9)
    passed_on: list[tuple[int, Answer]] = []
    engine = open_engine(model, tokenizer, processes=2)
    answers = engine.generate(prompts, NEW_TOKENS, lambda finished: passed_on.extend(finished.items()))
    assert sorted(index for index, _ in passed_on) == list(range(9))
    assert all(answers[index] == answer for index, answer in passed_on)
    assert all(answer.is_cut for answer in answers)
    assert open_engine(model, tokenizer).generate([], NEW_TOKENS) == []


def test_an_answer_ends_where_the_context_is_full(gpt2: Any, open_engine: Any) -> None:
    model, tokenizer = gpt2
    (answer,) = open_engine(model, tokenizer).generate([[5] * 508], 50)
    tokens = answer_alone(model, [5] * 508, [], 4)
    assert answer == Answer(tokenizer.decode(tokens).strip(), is_cut=True)


def test_a_long_prompt_is_computed_in_blocks_of_queries(llama: Any, open_engine: Any) -> None:
    model, tokenizer = llama
    prompt = [3 + number % 390 for number in range(300)]
    (answer,) = open_engine(model, tokenizer).generate([prompt], NEW_TOKENS)
    assert answer.text == tokenizer.decode(answer_alone(model, prompt, []), skip_special_tokens=True).strip()


def test_logits_of_a_long_prompt_do_not_depend_on_a_longer_one_beside_it_or_on_a_copied_prefix() -> None:
    model = wide_llama()
    chance = random.Random(0)
    prefix, other = ([chance.randrange(1, 400) for _ in range(length)] for length in (200, 300))
    prompt = [*prefix, 5, 6, 7, 8, 9]
    alone = logits_of(model, [prompt])
    assert torch.equal(logits_of(model, [prompt, other]), alone)
    assert torch.equal(logits_of(model, [prompt, prefix + other[:150]]), alone)
    assert torch.equal(logits_of(model, [prefix + other, prompt], row=1), alone)


def wide_llama() -> Any:
    """An untrained Llama whose matrix products are large enough for the kernels of real models."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400, hidden_size=576, intermediate_size=1152, num_hidden_layers=2, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=1024,
    )  # fmt: skip
    return LlamaForCausalLM._from_config(config, attn_implementation="sdpa").eval()


def logits_of(model: Any, prompts: list[list[int]], row: int = 0) -> torch.Tensor:
    """Logits of four steps of one of the rows that enter together. Shape: [4, vocabulary]."""
    with torch.inference_mode(), use_slots(model):
        decoder = SlotDecoder(model, [], rows=len(prompts), width=1024)
        decoder.admit([(index, list(prompt)) for index, prompt in enumerate(prompts)], NEW_TOKENS)
        steps = []
        for _ in range(4):
            logits = decoder.logits()
            steps.append(next(logits[place] for place, each in enumerate(decoder.active) if each.index == row).clone())
            for place, each in enumerate(decoder.active):
                each.tokens.append(int(logits[place].argmax()))
    return torch.stack(steps)


def test_a_repetition_penalty_of_the_model_is_kept(llama: Any, open_engine: Any, monkeypatch: Any) -> None:
    model, tokenizer = llama
    prompts = prompts_of(5)
    plain = open_engine(model, tokenizer).generate(prompts, NEW_TOKENS)
    monkeypatch.setattr(model.generation_config, "repetition_penalty", 1.7)
    answers = open_engine(model, tokenizer).generate(prompts, NEW_TOKENS)
    alone = [tokenizer.decode(answer_alone(model, prompt, [0]), skip_special_tokens=True).strip() for prompt in prompts]
    assert [answer.text for answer in answers] == alone
    assert answers != plain


def test_an_adapter_is_part_of_the_model(tiny_llama: Any, open_engine: Any) -> None:
    from peft import LoraConfig, get_peft_model

    from tasks.base.load import load_tokenizer, load_weights

    tokenizer = load_tokenizer(tiny_llama)
    torch.manual_seed(1)
    settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(load_weights(tiny_llama), settings).eval()
    prompts = prompts_of(6)
    answers = open_engine(model, tokenizer, processes=2).generate(prompts, NEW_TOKENS)
    alone = [tokenizer.decode(answer_alone(model, prompt, [0]), skip_special_tokens=True).strip() for prompt in prompts]
    assert [answer.text for answer in answers] == alone
    with model.disable_adapter():
        base = [answer_alone(model, prompt, [0]) for prompt in prompts]
    assert alone != [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in base]


def test_fewer_rows_are_decoded_at_once_where_their_keys_and_values_would_not_fit(
    llama: Any, open_engine: Any, monkeypatch: Any
) -> None:
    model, tokenizer = llama
    engine = open_engine(model, tokenizer, rows=32)
    bytes_of_row = 2 * 2 * 2 * 16 * 64 * 4  # keys and values, layers, heads, width, tokens, bytes
    monkeypatch.setattr(embedded, "CPU_CACHE_BYTES", 5 * bytes_of_row + 1)
    assert engine._rows_that_fit(64) == 5
    monkeypatch.setattr(embedded, "CPU_CACHE_BYTES", 1)
    assert engine._rows_that_fit(64) == 1


def test_the_number_of_processes_follows_the_free_cores_and_the_rows(llama: Any, open_engine: Any) -> None:
    from types import SimpleNamespace

    engine = open_engine(*llama, processes=None)
    engine.threads.choose = lambda: SimpleNamespace(threads=3)
    assert [engine._processes(rows) for rows in (1, 4, 5, 100)] == [1, 1, 2, 3]
    assert open_engine(*llama, processes=7)._processes(100) == 7


def test_the_engine_names_itself_and_its_libraries() -> None:
    described = embedded.describe_embedded()
    assert described["name"] == "embedded"
    assert set(described["version"]) == {"torch", "transformers"}
    assert described["settings"] == {"decoding": "greedy"}
