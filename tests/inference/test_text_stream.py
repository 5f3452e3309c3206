"""The pieces of an answer are together what the evaluation reads, and no piece is taken back."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.tiny_models import make_tiny_tokenizer
from support.toychat import CHATML, chat_tokenizer, spaced

from tasks.base.generation import answer_reader
from tasks.serve.engine import text_stream
from tasks.serve.engine.text_stream import TextDecoder, TextStream

TEXTS = (
    "  The match ended 2:1.\n\nThe coach was glad . ",
    "巴黎是法国的首都。\n你好，世界！𠮷野家 👩‍👩‍👧",
    "<think>\n想一想。\n</think>\n\nParis, 巴黎",
    "\u3000全角空格　\t end \u2003",
    "<|im_start|>",
    "",
)
TOKENIZERS = {
    "bytes": make_tiny_tokenizer,
    "with thoughts": lambda: chat_tokenizer(CHATML),
    "llama 2": lambda: spaced("llama 2"),
    "unigram": lambda: spaced("unigram"),
}


def pieces_of(decoder: TextDecoder, tokens: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(decoder, stop)
    pieces = []
    for count in range(1, len(tokens) + 1):
        pieces.append(stream.push(tokens[:count]))
        if stream.is_stopped:
            return pieces
    return [*pieces, stream.finish(tokens)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_pieces_are_the_answer_as_the_evaluation_reads_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "WINDOW_TOKENS", 16)
    tokenizer: Any = TOKENIZERS[name]()
    read, decoder = answer_reader(tokenizer), TextDecoder(tokenizer)
    chance = random.Random(0)
    answers = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    answers.append(tokenizer(" ".join(TEXTS[:2] * 4), add_special_tokens=False)["input_ids"])
    answers += [[chance.randrange(len(tokenizer)) for _ in range(chance.randint(1, 120))] for _ in range(20)]
    for tokens in answers:
        assert "".join(pieces_of(decoder, tokens)) == read(tokens)


def test_a_character_is_passed_on_when_its_last_byte_is_there() -> None:
    tokenizer = make_tiny_tokenizer()
    tokens = tokenizer("巴黎。 Ja")["input_ids"]
    pieces = pieces_of(TextDecoder(tokenizer), tokens)
    assert [piece for piece in pieces if piece][:3] == ["巴", "黎", "。"]
    assert not any(text_stream.TORN in piece for piece in pieces)


def test_few_tokens_are_decoded_again_in_a_long_answer() -> None:
    tokenizer = make_tiny_tokenizer()
    decoder = TextDecoder(tokenizer)
    counts: list[int] = []
    decode = decoder.decode
    decoder.decode = lambda ids: counts.append(len(ids)) or decode(ids)  # type: ignore[func-returns-value]
    tokens = tokenizer("The coach was glad，巴黎。 " * 40)["input_ids"]
    assert "".join(pieces_of(decoder, tokens)) == answer_reader(tokenizer)(tokens)
    assert max(counts[:-1]) <= text_stream.WINDOW_TOKENS + 2 * text_stream.OVERLAP_TOKENS


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (("\n\n",), "One two。三四"),
        (("三四",), "One two。"),
        (("四\n\nfive", "missing"), "One two。三"),
        (("three", "ive"), "One two。三四\n\nf"),
        (("One",), ""),
        (("四\n\nfive six seven",), "One two。三四\n\nfive six"),
        (("", "absent"), "One two。三四\n\nfive six"),
    ],
)
def test_no_part_of_a_stop_string_is_passed_on(stop: tuple[str, ...], expected: str) -> None:
    tokenizer = make_tiny_tokenizer()
    tokens = tokenizer("One two。三四\n\nfive six")["input_ids"]
    assert "".join(pieces_of(TextDecoder(tokenizer), tokens, stop)) == expected


def test_a_tokenizer_that_cleans_spaces_up_takes_no_piece_back() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    tokens = tokenizer("He said ' no ' . Is n't it ? Yes , we 've been . ")["input_ids"]
    assert "".join(pieces_of(TextDecoder(tokenizer), tokens)) == answer_reader(tokenizer)(tokens)
