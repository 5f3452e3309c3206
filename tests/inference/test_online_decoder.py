"""Requests join and leave a running batch: a greedy answer has the tokens of the evaluation, whatever is computed beside it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch

from tasks.base.generation import answer_reader
from tasks.inference.batches import generate_batch
from tasks.inference.norms import quick_norms
from tasks.inference.packed_linear import packed_linears
from tasks.inference.slots import use_slots
from tasks.inference.support import inner_model
from tasks.scoring.read_answer import AnswerReader
from tasks.serve.engine.choose import Chooser
from tasks.serve.engine.constraint import Grammars
from tasks.serve.engine.online_decoder import OnlineDecoder
from tasks.serve.engine.online_row import OnlineRow
from tasks.serve.engine.probe import has_independent_rows
from tasks.serve.engine.request import Delta, EngineFailed, Finished, RequestRejected, Sampling
from tasks.serve.engine.text_stream import TextDecoder, TextStream

NEW_TOKENS = 12
GREEDY = Sampling()
SAMPLED = Sampling(temperature=1.0, top_p=0.9)


class Batch:
    """A decoder, and the events of its requests."""

    def __init__(self, model: Any, tokenizer: Any, **settings: Any) -> None:
        self.decoder = OnlineDecoder(inner_model(model), **{"rows": 8, "positions": 512, **settings})
        self.tokenizer, self.text = tokenizer, TextDecoder(tokenizer)
        self.grammars = Grammars(tokenizer, inner_model(model).config.vocab_size, [tokenizer.eos_token_id])
        self.events: dict[str, list[Any]] = {}
        self.rows: dict[str, OnlineRow] = {}

    def add(
        self, key: str, prompt: Sequence[int], sampling: Sampling = GREEDY, *, limit: int = NEW_TOKENS,
        choices: int = 1, seed: int = 0, reader: AnswerReader | None = None,
    ) -> None:  # fmt: skip
        events = self.events.setdefault(key, [])
        rows = []
        for choice in range(choices):
            constraint = self.grammars.constraint(sampling.json_schema) if sampling.json_schema else None
            row = OnlineRow(
                choice, list(prompt), len(prompt), len(prompt) + limit, key,
                Chooser(sampling, seed + choice, constraint), TextStream(self.text, sampling.stop),
                frozenset([self.tokenizer.eos_token_id]), events.append, reader or AnswerReader("free"),
                top=sampling.logprobs, bytes_of=self.grammars.bytes_of,
            )  # fmt: skip
            self.rows[f"{key}/{choice}"] = row
            rows.append(row)
        self.decoder.add(rows)

    def run(self, ticks: int | None = None) -> None:
        while self.decoder.is_busy and ticks != 0:
            self.decoder.tick()
            ticks = None if ticks is None else ticks - 1

    def tokens(self, key: str, choice: int = 0) -> list[int]:
        return self.rows[f"{key}/{choice}"].answer

    def finished(self, key: str, choice: int = 0) -> Finished:
        (end,) = [each for each in self.events[key] if isinstance(each, Finished) and each.choice == choice]
        pieces = [each.text for each in self.events[key] if isinstance(each, Delta) and each.choice == choice]
        assert "".join(pieces) == end.text
        return end


@contextmanager
def batch(model: Any, tokenizer: Any, **settings: Any) -> Iterator[Batch]:
    inner = inner_model(model)
    with ExitStack() as stack:
        for manager in (packed_linears(inner), quick_norms(inner), use_slots(inner)):
            stack.enter_context(manager)
        yield Batch(model, tokenizer, **settings)


def prompt_of(length: int, seed: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(1, 400) for _ in range(length)]


@pytest.fixture(scope="module")
def adapted(tiny_llama: Any) -> tuple[Any, Any]:
    from peft import LoraConfig, get_peft_model

    from tasks.base.load import load_tokenizer, load_weights

    torch.manual_seed(1)
    settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(load_weights(tiny_llama), settings).eval(), load_tokenizer(tiny_llama)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen", "adapted"])
def test_greedy_tokens_are_those_of_the_evaluation_beside_any_other_requests(
    name: str, request: pytest.FixtureRequest, open_engine: Any
) -> None:
    model, tokenizer = request.getfixturevalue(name)
    prefix = prompt_of(60, 1)
    lengths = (7, 205, 300, 40, 1, 90)
    prompts = [prompt_of(length, number) for number, length in enumerate(lengths)]
    prompts += [prefix + prompt_of(9, 20), prefix + prompt_of(5, 21)]
    expected = open_engine(model, tokenizer).tokens_of(prompts, NEW_TOKENS)
    with batch(model, tokenizer, rows=5) as run:
        for number, prompt in enumerate(prompts):
            run.add(str(number), prompt)
            run.add(f"sampled {number}", prompt_of(30 + number, 40 + number), SAMPLED, limit=5 + number)
            run.run(ticks=2 * (number % 2))
            if number == 3:
                run.decoder.cancel("sampled 3")
                run.decoder.cancel("sampled 1")
        run.run()
        assert [run.tokens(str(number)) for number in range(len(prompts))] == expected
        read = answer_reader(tokenizer)
        for number, tokens in enumerate(expected):
            end = run.finished(str(number))
            assert end == Finished(0, "stop" if tokens[-1] == 0 else "length", read(tokens), len(tokens))
        assert run.decoder.copied_tokens > 0
        assert not any(isinstance(each, Finished) for each in run.events["sampled 3"])
    assert len({tuple(tokens) for tokens in expected}) > 4


def test_a_long_prompt_is_computed_in_parts_between_steps_of_the_running_rows(
    llama: Any, open_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.serve.engine import online_decoder

    monkeypatch.setattr(online_decoder, "PROMPT_TOKENS_OF_TICK", 64)
    prompts = [prompt_of(20, 1), prompt_of(300, 2), prompt_of(280, 3), prompt_of(10, 4)]
    expected = open_engine(*llama).tokens_of(prompts, 24)
    with batch(*llama) as run:
        run.add("0", prompts[0], limit=24)
        run.run(ticks=1)
        for number in (1, 2, 3):
            run.add(str(number), prompts[number], limit=24)
        run.run(ticks=5)
        assert len(run.tokens("0")) == 6, "a token in each tick"
        assert run.tokens("1") != []
        run.run()
        assert [run.tokens(str(number)) for number in range(4)] == expected


def test_choices_share_their_prompt_and_a_seeded_one_is_the_same_alone_and_in_a_batch(llama: Any) -> None:
    prompt = prompt_of(50, 1)
    with batch(*llama) as run:
        run.add("four", prompt, SAMPLED, choices=4, seed=7)
        run.run()
        answers = [run.tokens("four", choice) for choice in range(4)]
        assert run.decoder.copied_tokens == 3 * (len(prompt) - 1)
        assert {run.finished("four", choice).choice for choice in range(4)} == {0, 1, 2, 3}
    assert len({tuple(tokens) for tokens in answers}) == 4
    with batch(*llama) as run:
        run.add("other", prompt_of(80, 2), SAMPLED)
        run.run(ticks=3)
        run.add("third", prompt, SAMPLED, seed=9)
        run.add("more", prompt_of(10, 3), SAMPLED)
        run.run()
        assert run.tokens("third") == answers[2], "choice 2 of seed 7"


def test_the_penalty_of_the_model_changes_tokens_but_no_reported_probability(
    llama: Any, open_engine: Any, monkeypatch: Any
) -> None:
    model, tokenizer = llama
    monkeypatch.setattr(model.generation_config, "repetition_penalty", 1.7)
    prompt = prompt_of(30, 1)
    with batch(model, tokenizer) as run:
        run.add("a", prompt, Sampling(logprobs=2))
        run.run()
        tokens = run.tokens("a")
        reported = [each for delta in run.events["a"] if isinstance(delta, Delta) for each in delta.logprobs]
    assert [tokens] == open_engine(model, tokenizer).tokens_of([prompt], NEW_TOKENS)
    assert len(reported) == len(tokens) - (tokens[-1] == 0)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *tokens[:-1]]])).logits[0, len(prompt) - 1 :]
    expected = logits.log_softmax(-1)
    for place, each in enumerate(reported):
        assert each.logprob == pytest.approx(float(expected[place, tokens[place]]), abs=1e-4)
        assert [value for _, value in each.top] == pytest.approx(expected[place].topk(2).values.tolist(), abs=1e-4)
        assert bytes(each.bytes).decode("utf-8", "replace") == each.text


def test_temperature_and_top_p_sample_from_the_distribution_of_transformers(llama: Any) -> None:
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    logits = torch.tensor([2.0, 1.5, 1.0, -1.0, float("-inf")])
    chooser = Chooser(Sampling(temperature=0.7, top_p=0.8), seed=3)
    counts = torch.bincount(torch.tensor([chooser.choose(logits) for _ in range(2000)]), minlength=5) / 2000
    warped = TopPLogitsWarper(0.8)(None, TemperatureLogitsWarper(0.7)(None, logits[None]))[0]
    assert counts.tolist() == pytest.approx(warped.softmax(-1).tolist(), abs=0.04)
    assert Chooser(Sampling(temperature=1e-9), 0).choose(logits) == 0
    assert Chooser(Sampling(temperature=2.0, top_p=0.0), 0).choose(logits) == 0
    Chooser(SAMPLED, seed=-5)


def test_a_stop_string_ends_the_answer_before_it_and_frees_its_slot(llama: Any) -> None:
    prompt = prompt_of(30, 1)
    with batch(*llama) as run:
        run.add("whole", prompt, limit=30)
        run.run()
        text = run.finished("whole").text
        stop = text[10:13]
        run.add("cut", prompt, Sampling(stop=("not in it", stop), logprobs=0), limit=30)
        run.run()
        end = run.finished("cut")
        assert (end.reason, end.text) == ("stop", text[: text.index(stop)].strip())
        assert end.tokens < run.finished("whole").tokens
        assert run.decoder.active == []


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_satisfies_its_schema_also_a_chinese_one(llama: Any, temperature: float) -> None:
    schema = {
        "type": "object",
        "properties": {"城市": {"enum": ["巴黎", "北京"]}, "n": {"type": "integer", "minimum": 3, "maximum": 5}},
        "required": ["城市", "n"],
        "additionalProperties": False,
    }
    sampling = Sampling(temperature=temperature, json_schema=json.dumps(schema))
    with batch(*llama) as run:
        run.add("free", prompt_of(30, 1), limit=60)
        run.add("json", prompt_of(30, 2), sampling, limit=200, choices=2)
        run.run()
        for choice in range(2):
            end = run.finished("json", choice)
            value = json.loads(end.text)
            assert value["城市"] in ("巴黎", "北京")
            assert value["n"] in (3, 4, 5)
            assert end.reason == "stop"
        free = run.tokens("free")
    with batch(*llama) as run:
        run.add("free", prompt_of(30, 1), limit=60)
        run.run()
        assert run.tokens("free") == free
        any_object = run.grammars.constraint("{}")
        assert torch.isfinite(any_object.mask(torch.zeros(400))).sum() < 30, "an object begins with a brace"
        spaces = run.tokenizer("{" + 70 * " ")["input_ids"]
        for token in spaces:
            any_object.take(token)
        assert any_object.is_complete, "white space ends"
        with pytest.raises(RequestRejected, match="cannot be compiled") as caught:
            run.grammars.constraint('{"type": "nothing"}')
        assert caught.value.code == "invalid_schema"


def test_logits_that_are_not_finite_fail_only_their_row_and_leave_the_slot_clean(open_engine: Any, llama: Any) -> None:
    import copy

    model, tokenizer = copy.deepcopy(llama[0]), llama[1]
    with torch.no_grad():
        model.model.embed_tokens.weight[399] = float("nan")
    good = [prompt_of(20, seed) for seed in range(3)]
    good = [[token % 399 for token in prompt] for prompt in good]
    expected = open_engine(*llama).tokens_of(good, NEW_TOKENS)
    assert all(399 not in tokens for tokens in expected)
    with batch(model, tokenizer, rows=2) as run:
        run.add("bad", [399, *good[0]])
        run.add("long and bad", [399] * 505, limit=3)
        for number, prompt in enumerate(good):
            run.add(str(number), prompt)
        run.run()
        for key in ("bad", "long and bad"):
            (event,) = run.events[key]
            assert isinstance(event, EngineFailed)
        assert [run.tokens(str(number)) for number in range(3)] == expected


def test_rows_grow_beyond_the_first_width_and_wait_where_they_no_longer_fit(
    llama: Any, open_engine: Any, monkeypatch: Any
) -> None:
    from tasks.inference.embedded import bytes_of_token
    from tasks.serve.engine import online_decoder

    monkeypatch.setattr(online_decoder, "FIRST_WIDTH", 32)
    prompts = [prompt_of(20 + number, number) for number in range(6)]
    expected = open_engine(*llama).tokens_of(prompts, 100)
    with batch(*llama, room=6 * 33 * bytes_of_token(llama[0])) as run:
        assert run.decoder.capacity == 5
        for number, prompt in enumerate(prompts):
            run.add(str(number), prompt, limit=100)
        run.run(ticks=40)
        assert run.decoder.capacity < 5
        assert len(run.decoder.active) == run.decoder.capacity
        run.run()
        assert [run.tokens(str(number)) for number in range(6)] == expected
        assert (run.decoder.width, run.decoder.cache.states) == (32, {})


def test_an_answer_ends_where_the_context_is_full_online_too(gpt2: Any) -> None:
    expected = generate_batch(gpt2[0], [[5] * 508], 4, ends=[], padding=0)[0]
    with batch(*gpt2) as run:
        run.add("a", [5] * 508, limit=50)
        run.run()
        assert run.tokens("a") == expected
        assert run.finished("a").reason == "length"


def test_calls_are_passed_on_whole_and_other_answers_of_a_prompt_with_tools_as_text(llama: Any) -> None:
    tokenizer = llama[1]
    text = '<tool_call>\n{"name": "weather", "arguments": {"city": "巴黎"}}\n</tool_call>'
    for written, reason, calls in (
        (text, "tool_calls", ({"name": "weather", "arguments": '{"city": "巴黎"}'},)),
        ("It rains.", "stop", ()),
    ):
        events: list[Any] = []
        row = OnlineRow(
            0, [1], 1, 500, "a", Chooser(Sampling(), 0), TextStream(TextDecoder(tokenizer)), frozenset([0]),
            events.append, AnswerReader("free", may_call=True),
        )  # fmt: skip
        for token in [*tokenizer(written)["input_ids"], 0]:
            row.take(token, None)
        end = events[-1]
        assert (end.reason, end.text, end.calls) == (reason, written, calls)
        assert events[:-1] == ([] if calls else [Delta(0, written)])


def test_the_probe_compares_rows_together_and_alone(llama: Any, gpt2: Any, monkeypatch: Any) -> None:
    from tasks.inference import slots

    assert has_independent_rows(llama[0], 512)
    assert has_independent_rows(gpt2[0], 64)
    attend = slots._attend
    monkeypatch.setattr(slots, "_attend", lambda query, key, *more: attend(query, key, *more) * (1 + 1e-6 * len(key)))
    assert not has_independent_rows(llama[0], 512)
