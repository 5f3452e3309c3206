"""Integrated gradients of a head by Captum: they are complete, and the word that decides has the largest share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tasks.base.heads import text_ids
from tasks.base.load import load_tokenizer, load_weights
from tasks.explain import gradients
from tasks.explain.explanation import of_gradients
from tasks.explain.gradients import Gradients, integrated_gradients
from tasks.explain.pieces import in_words, pieces_of

TEXT = "The striker 进球了, and well played!"


class Steep(torch.nn.Module):
    """A head whose first output rises steeply with one token, and ignores all others."""

    def __init__(self, token: int, size: int, steepness: float = 1.0) -> None:
        super().__init__()
        self.device, self.steepness = torch.device("cpu"), steepness
        self.embeddings = torch.nn.Embedding(size, 2)
        with torch.no_grad():
            self.embeddings.weight[:, 0] = 0
            self.embeddings.weight[token, 0] = 1

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embeddings

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        total = (self.embeddings(input_ids)[..., 0] * attention_mask).sum(dim=1)
        rise = torch.sigmoid(self.steepness * (total - 0.5))
        return SimpleNamespace(logits=torch.stack([rise, -rise], dim=1))


@pytest.fixture(params=["tiny_bert", "tiny_llama"])
def head(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A model with a head of three labels and large random weights, and its tokenizer."""
    folder: Path = request.getfixturevalue(request.param)
    torch.manual_seed(0)
    model = load_weights(folder, labels=("a", "b", "c"))
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 3
    return model, load_tokenizer(folder, generates=False)


def gradients_of(model: Any, tokenizer: Any, output: int = 1) -> tuple[list[int], frozenset[int], Gradients]:
    ((ids, _),) = text_ids(tokenizer, [TEXT], 128)
    fixed = frozenset(tokenizer.all_special_ids)
    return ids, fixed, integrated_gradients(model, ids, output, padding=tokenizer.pad_token_id, fixed=fixed)


def test_the_shares_sum_to_the_difference_of_the_outputs(head: tuple[Any, Any]) -> None:
    model, tokenizer = head
    ids, fixed, result = gradients_of(model, tokenizer)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    assert result.output == pytest.approx(float(logits[1]), abs=1e-5)
    assert abs(result.output - result.baseline) > 1e-2
    assert sum(result.values) == pytest.approx(result.output - result.baseline, rel=gradients.TOLERANCE)
    assert result.is_converged
    assert [result.values[i] for i, token in enumerate(ids) if token in fixed] == [0.0] * sum(i in fixed for i in ids)
    assert gradients_of(model, tokenizer)[2] == result
    attribution = of_gradients("b", "text", pieces_of(tokenizer, ids), result, fixed, ids)
    assert sum(span.value or 0 for span in attribution.fields["text"]) == pytest.approx(sum(result.values))


def test_a_decoder_reads_the_same_position_in_the_baseline(tiny_llama: Path) -> None:
    """The head reads the last token that is not padding; in a baseline of padding that would be the begin token."""
    tokenizer, model = load_tokenizer(tiny_llama, generates=False), load_weights(tiny_llama, labels=("a", "b"))
    ((ids, _),) = text_ids(tokenizer, [TEXT], 128)
    begin = tokenizer("x", add_special_tokens=False)["input_ids"]
    fixed = {*begin, *tokenizer.all_special_ids}
    result = integrated_gradients(model, [*begin, *ids], 1, padding=tokenizer.pad_token_id, fixed=fixed)
    assert abs(result.output - result.baseline) > 1e-3
    assert abs(result.error) < 1e-4


@pytest.mark.parametrize("word", [" striker", "球"])
def test_the_word_that_decides_the_label_has_the_whole_share(word: str, tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(tiny_bert, generates=False)
    ((ids, _),) = text_ids(tokenizer, [TEXT], 128)
    pieces = pieces_of(tokenizer, ids)
    (piece,) = [piece for piece in in_words(pieces) if piece.text == word]
    model = Steep(ids[piece.tokens[0]], len(tokenizer))
    _, fixed, result = gradients_of(model, tokenizer, output=0)
    (top,) = of_gradients("a", "text", pieces, result, fixed, ids).top(5)
    assert top.text == word
    assert top.value == pytest.approx(result.output - result.baseline, rel=0.02)


def test_a_steep_head_takes_more_steps_and_one_too_steep_is_reported(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_bert, generates=False)
    ((ids, _),) = text_ids(tokenizer, [TEXT], 128)
    make: Callable[[float], Any] = lambda steepness: Steep(ids[1], len(tokenizer), steepness)  # noqa: E731
    steps = gradients_of(make(400), tokenizer, output=0)[2].steps
    assert steps > gradients.STEPS[0]
    monkeypatch.setattr(gradients, "STEPS", (2, 3))
    _, fixed, result = gradients_of(make(400), tokenizer, output=0)
    assert not result.is_converged
    warning = of_gradients("a", "text", pieces_of(tokenizer, ids), result, fixed, ids).warning
    assert "has not converged after 3 steps" in warning


@pytest.mark.parametrize("text", [TEXT, "城市1叫什么？ two  spaces", "emoji 😀 é ﬁn", "<|endoftext|> is text"])
def test_pieces_are_the_decoded_text_and_whole_characters(text: str, tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = pieces_of(tokenizer, ids)
    assert "".join(piece.text for piece in pieces) == tokenizer.decode(ids)
    assert [token for piece in pieces for token in piece.tokens] == list(range(len(ids)))
    assert not any("\ufffd" in piece.text for piece in pieces)
    assert "".join(piece.text for piece in in_words(pieces)) == tokenizer.decode(ids)
