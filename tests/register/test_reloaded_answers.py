"""A reloaded model answers test rows as they were evaluated, or it is not registered."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tasks import paths
from tasks.base.generation import answer_reader, end_token_ids
from tasks.base.heads import head_logits
from tasks.base.load import load_tokenizer, load_weights
from tasks.config import load_config
from tasks.dataset.rendered import TEST
from tasks.errors import DataError, RegistryError
from tasks.evaluate.likelihood import start_ids, text_losses
from tasks.inference.embedded import EmbeddedEngine
from tasks.register import reload_check, stage
from tasks.register.evaluated_rows import PREDICTIONS, ROWS, Evaluated, choose_rows, read_evaluated
from tasks.register.reload_check import differing_answers, evaluated_token, parting
from tasks.runtime.threads import Threads
from tasks.scoring.calibration import highest_probability
from tasks.tracking.registry import open_registry

PROMPTS = ("The quick brown fox", "敏捷的棕色狐狸", "0123456789", "How many? 多少？")


def rows_of(families: dict[str, int]) -> list[dict[str, Any]]:
    return [{"row_id": f"{name}-{n}", "family": name} for name, count in families.items() for n in range(count)]


def test_every_family_is_among_the_chosen_rows_and_their_order_does_not_matter() -> None:
    rows = rows_of({"topic": 500, "情感": 3, "qa": 1})
    chosen = choose_rows(rows)
    random.Random(1).shuffle(rows)
    assert choose_rows(rows) == chosen
    assert len(chosen) == ROWS
    assert {row["row_id"] for row in chosen if row["family"] != "topic"} == {"情感-0", "情感-1", "情感-2", "qa-0"}
    many = choose_rows(rows_of({f"family-{n}": 2 for n in range(30)}))
    assert len({row["family"] for row in many}) == len(many) == 30


def evaluated(rows: list[dict[str, Any]], precision: str = "fp32", is_by_server: bool = False) -> Evaluated:
    numbered = [{"row_id": f"row-{n}", "family": "qa", **row} for n, row in enumerate(rows)]
    return Evaluated(numbered, precision, is_by_server, max_new_tokens=12)


def answers(model: Any, tokenizer: Any, tokens: int = 12) -> list[dict[str, Any]]:
    """The rows as `evaluate` stores them."""
    engine = EmbeddedEngine(model, tokenizer, stage="test", rows=8, threads=Threads("test", is_quiet=True), processes=1)
    prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    generated = engine.generate(prompts, tokens)
    return [
        {"prompt_ids": ids, "prediction": answer.text, "is_cut": answer.is_cut}
        for ids, answer in zip(prompts, generated, strict=True)
    ]


def louder(model: Any) -> Any:
    """The model with larger logits: random weights of the toys make all tokens nearly equal."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "embed" in name:
                weights.mul_(20)
    return model


def test_equal_answers_pass_and_the_first_other_token_is_reported(tiny_llama: Path) -> None:
    model, tokenizer = louder(load_weights(tiny_llama)), load_tokenizer(tiny_llama)
    rows = answers(model, tokenizer)
    assert differing_answers(model, tokenizer, None, evaluated(rows)) == []
    text = rows[1]["prediction"]
    rows[1]["prediction"] = f"{text[: len(text) // 2]}完全不同"
    (problem,) = differing_answers(model, tokenizer, None, evaluated(rows))
    assert problem.startswith("row row-1: token ")
    assert "is not the evaluated one" in problem
    for precision, is_by_server in (("bf16", False), ("fp32", True)):  # rougher, not blind
        assert differing_answers(model, tokenizer, None, evaluated(rows, precision, is_by_server))


@pytest.mark.parametrize("text", ["a", "鑫"])
def test_a_near_tie_may_go_either_way(tiny_llama: Path, text: str) -> None:
    """Two tokens with equal embeddings have equal logits; the evaluation chose the other one."""
    model, tokenizer = louder(load_weights(tiny_llama)), load_tokenizer(tiny_llama)
    (row, *_) = answers(model, tokenizer)
    first = int(model(input_ids=torch.tensor([row["prompt_ids"]])).logits[0, -1].argmax())
    other = tokenizer(text, add_special_tokens=False)["input_ids"][0]
    assert first not in (other, *end_token_ids(model, tokenizer))
    row |= {"row_id": "a", "prediction": text, "is_cut": True}
    for factor, expected in ((1 - 1e-5, 0), (0.5, 1)):
        with torch.no_grad():
            embeddings = model.get_input_embeddings().weight
            embeddings[other] = embeddings[first] * factor
        assert len(differing_answers(model, tokenizer, None, Evaluated([row], "fp32", False, 1))) == expected


def test_the_parting_is_the_first_token_that_leads_elsewhere() -> None:
    characters = {1: "你", 2: "好", 3: "\ufffd", 9: ""}

    def place(*tokens: int, is_cut: bool = False) -> int:
        def read(ids: list[int]) -> str:
            return "".join(characters[token] for token in ids)

        return parting(list(tokens), {"prediction": "你好", "is_cut": is_cut}, read, ends=[9])

    assert place(1, 2, 9) == 3
    assert place(1, 3) == 2  # half a character may become 好
    assert place(1, 1) == 1
    assert place(1, 9) == 1
    assert place(1, 2, 9, is_cut=True) == 2


def test_a_part_of_a_character_may_be_the_token_that_parts(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    read = answer_reader(tokenizer)
    own, other = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("我x", "烹x"))
    assert read(own[:1]).endswith("\ufffd")
    assert own[0] != other[0]
    place = parting(own, {"prediction": "烹x", "is_cut": False}, read, ends=[])
    assert place > 0, "the bytes decode to no text"
    assert evaluated_token(tokenizer, own[:place], "烹x", read) == (0, other[0])
    assert evaluated_token(tokenizer, other[:1], "烹x", read) == (1, other[1])


def test_only_the_first_tokens_of_a_long_answer_are_generated(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = louder(load_weights(tiny_llama)), load_tokenizer(tiny_llama)
    rows = answers(model, tokenizer)
    monkeypatch.setattr(reload_check, "MOST_TOKENS", 5)
    assert differing_answers(model, tokenizer, None, evaluated(rows)) == []
    longer = [row | {"prediction": f"{row['prediction']} 后来"} for row in rows if row["is_cut"]]
    assert longer
    assert differing_answers(model, tokenizer, None, evaluated(longer)) == []


def test_labels_rewards_and_likelihoods_are_compared_too(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    texts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    classifier = load_weights(tiny_llama, labels=("体育", "news"))
    logits = head_logits(classifier, texts, 4)
    rows = [
        {
            "prompt_ids": ids,
            "prediction": ("体育", "news")[values[1] > values[0]],
            "confidence": highest_probability(values),
        }
        for ids, values in zip(texts, logits, strict=True)
    ]
    assert differing_answers(classifier, tokenizer, ("体育", "news"), evaluated(rows)) == []
    rows[2]["confidence"] += 0.1
    (problem,) = differing_answers(classifier, tokenizer, ("体育", "news"), evaluated(rows))
    assert problem.startswith("row row-2: the confidence is")
    rows[0]["prediction"] = {"体育": "news", "news": "体育"}[rows[0]["prediction"]]
    assert len(differing_answers(classifier, tokenizer, ("体育", "news"), evaluated(rows))) == 2

    reward = load_weights(tiny_llama, labels=("reward",))
    (better,), (worse,) = head_logits(reward, texts[:2], 2)
    pair = {"chosen_ids": texts[0], "rejected_ids": texts[1], "score": 1.0 if better > worse else 0.0}
    assert differing_answers(reward, tokenizer, ("reward",), evaluated([pair])) == []
    assert differing_answers(reward, tokenizer, ("reward",), evaluated([pair | {"score": 1.0 - pair["score"]}])) != []

    model = load_weights(tiny_llama)
    nats = text_losses(model, texts, start_ids(tokenizer))
    likely = [{"prompt_ids": ids, "bits": loss / math.log(2)} for ids, loss in zip(texts, nats, strict=True)]
    assert differing_answers(model, tokenizer, None, evaluated(likely)) == []
    likely[0]["bits"] *= 1.01
    (problem,) = differing_answers(model, tokenizer, None, evaluated(likely))
    assert problem.startswith("row row-0: its likelihood is")


def store(rows: list[dict[str, Any]]) -> None:
    """Writes what `render` and `evaluate` would."""
    for path, columns in (
        (TEST, ("row_id", "prompt_ids")),
        (PREDICTIONS, ("row_id", "family", "prediction", "is_cut")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{name: row[name] for name in columns} for row in rows]), path)


@pytest.mark.usefixtures("warm")
def test_a_version_whose_reload_answers_otherwise_is_not_registered(judged: Path) -> None:
    from tasks.base.load import load_trained
    from tasks.base.pin import read_base

    model, tokenizer = load_trained(paths.MODEL, read_base()), load_tokenizer(paths.MODEL)
    rows = [{"row_id": f"r{n}", "family": "qa", **row} for n, row in enumerate(answers(model, tokenizer, tokens=8))]
    store([row | {"prediction": "别的答案"} for row in rows])
    with pytest.raises(RegistryError, match=r"answers 4 of 4 test rows otherwise than it was evaluated \(row r"):
        stage.run(load_config())
    registry = open_registry(load_config())
    assert registry.versions() == []
    assert registry.client.search_logged_models([registry.experiment_id]) == []
    TEST.unlink()
    with pytest.raises(DataError, match="the tokens of the evaluated rows"):
        read_evaluated(Path(), {})
    store(rows)
    assert stage.run(load_config()).version == 1
