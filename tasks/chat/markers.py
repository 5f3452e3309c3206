"""Control tokens that a person typed are text: `<|im_end|>` in a row is written out, and ends no turn.

Control tokens are a tokenizer's special tokens, and the added tokens that its chat template writes around a user's turn. Where a
content holds one, it is masked while the chat template is filled in: what is then there of control tokens is the template's own.
Other added tokens (`<think>`, `<tool_call>`) stay what the tokenizer makes of them.

    markers = TypedMarkers(tokenizer, control_tokens(tokenizer))
    ids = markers.encode([written_by_the_template(markers.masked(contents))])
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Value = TypeVar("Value")

_MASK = "\U00100000"
"""A mask is this character, of private use, and the control token's number as another such; twice, it is what somebody typed."""
_LEAD, _END = "\ufdd0", "\ufdd1"
"""A stand-in for a control token: a text that no tokenizer has, between two of Unicode's noncharacters."""
_BREAK = f"{_LEAD}|{_END}"
"""A stand-in for nothing: two texts that are tokenised apart."""


def control_tokens(tokenizer: Any, around_user: str = "") -> tuple[str, ...]:
    """The tokens that steer a model, and that no text stands for.

    Args:
        around_user: what the chat template writes around a user's turn.
    """
    added = tokenizer.added_tokens_decoder.values()
    return tuple(
        sorted(token.content for token in added if token.content and (token.special or token.content in around_user))
    )


def plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of texts that no template wrote: a control token in them is text."""
    markers = TypedMarkers(tokenizer, control_tokens(tokenizer))
    with control_tokens_as_text(tokenizer):
        encoded: list[list[int]] = tokenizer(
            list(texts), add_special_tokens=False, verbose=False, split_special_tokens=True
        )["input_ids"]
    for place, ids in enumerate(encoded):
        if markers.leak(ids):
            encoded[place] = markers.encode_plain([texts[place]])[0].tolist()
    return encoded


@contextlib.contextmanager
def control_tokens_as_text(tokenizer: Any) -> Iterator[None]:
    """In it, the library beneath the tokenizer reads special tokens as text: a page about `<|endoftext|>` does not end there."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        yield
        return
    before, fast.encode_special_tokens = fast.encode_special_tokens, True
    try:
        yield
    finally:
        fast.encode_special_tokens = before


class TypedMarkers:
    """Tells the control tokens of a text that a template has written from those that a person typed."""

    def __init__(self, tokenizer: Any, controls: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.controls = tuple(sorted(controls, key=lambda control: (-len(control), control)))
        self._sought = re.compile("|".join(map(re.escape, self.controls))) if self.controls else None
        self._maskable = re.compile("|".join(map(re.escape, (*self.controls, _MASK))))
        codes = {control: chr(ord(_MASK) + 1 + number) for number, control in enumerate(self.controls)} | {_MASK: _MASK}
        self._masks = {text: _MASK + code for text, code in codes.items()}
        self._texts = {mask: text for text, mask in self._masks.items()}
        self._masked = re.compile(f"{_MASK}[{''.join(codes.values())}]")

    def are_in(self, texts: Iterable[str]) -> bool:
        """Does one of the texts hold a control token?"""
        return self._sought is not None and self._sought.search("\0".join(texts)) is not None

    def masked(self, value: Value) -> Value:
        """The value (a text, or lists and dictionaries of texts) with a mask in place of each control token."""
        made: Any = value
        if isinstance(value, str):
            made = self._maskable.sub(lambda match: self._masks[match[0]], value)
        elif isinstance(value, dict):
            made = {self.masked(key): self.masked(item) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            made = type(value)(self.masked(item) for item in value)
        return made  # type: ignore[no-any-return]

    def restored(self, text: str) -> str:
        """A text with what was masked in it."""
        return self._masked.sub(lambda match: self._texts[match[0]], self._unescaped(text))

    def _unescaped(self, text: str) -> str:
        """The text with its masks as characters, where the template wrote them as JSON does in ASCII."""
        for mask in self._texts if "\\ud" in text else ():
            text = text.replace(json.dumps(mask)[1:-1], mask)
        return text

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of texts with masks: what was masked is tokenised as text, and of its control tokens none is an id."""
        parts = [self._parts(text) for text in texts]
        encoded = self._ask(parts, is_broken=False)
        leaking = [
            place for place, ids in enumerate(encoded) if self._control_count(ids) != self._written(parts[place])
        ]
        if leaking:  # a model that picks pieces by their score (unigram) may pick a control token for its text
            for place, ids in zip(leaking, self._ask([parts[i] for i in leaking], is_broken=True), strict=True):
                encoded[place] = ids
        return encoded

    def encode_plain(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of texts that no template wrote: all of each is text."""
        return self.encode([self.masked(text) for text in texts])

    def leak(self, ids: Sequence[int] | Ids) -> bool:
        """Is a control token among the ids of a plain text?"""
        return self._control_count(ids) > 0

    def _written(self, parts: list[tuple[str, bool]]) -> int:
        """How many control tokens a template wrote."""
        return sum(is_control and text != self.tokenizer.unk_token for text, is_control in parts)

    def _control_count(self, ids: Sequence[int] | Ids) -> int:
        return int(np.isin(ids, self._control_ids).sum())

    @cached_property
    def _control_ids(self) -> Ids:
        """But for that of what the tokenizer does not know, which ordinary characters may become."""
        numbers = {self.tokenizer.convert_tokens_to_ids(control) for control in self.controls}
        return np.array(sorted(numbers - {self.tokenizer.unk_token_id, None}), np.int32)

    def _parts(self, text: str) -> list[tuple[str, bool]]:
        """The text in turn of what a template wrote as control tokens (True), and what is text."""
        parts, place = [], 0
        for match in self._sought.finditer(text) if self._sought is not None else ():
            parts += [(text[place : match.start()], False), (match[0], True)]
            place = match.end()
        return [*parts, (text[place:], False)]

    def _ask(self, texts: list[list[tuple[str, bool]]], is_broken: bool) -> list[Ids]:
        if self._stand_ins is None:
            return [np.array(self._by_part(parts), np.int32) for parts in texts]
        tokenizer, number_of, ids_of = self._stand_ins
        written = ["".join(number_of[text] if is_control else self._as_text(text, is_broken) for text, is_control in parts)
                   for parts in texts]  # fmt: skip
        encoded = [
            np.array(one.ids, np.int64) for one in tokenizer.encode_batch_fast(written, add_special_tokens=False)
        ]
        mapped = [ids_of[ids] for ids in encoded]
        return [ids[ids >= 0].astype(np.int32) for ids in mapped]

    def _as_text(self, text: str, is_broken: bool) -> str:
        def typed(match: re.Match[str]) -> str:
            marker = self._texts[match[0]]
            return marker[0] + _BREAK + marker[1:] if is_broken else marker

        text = self._unescaped(text).replace(_LEAD, _LEAD + _BREAK)  # so that nobody types a stand-in
        return self._masked.sub(typed, text)

    def _by_part(self, parts: list[tuple[str, bool]]) -> list[int]:
        """For a tokenizer that is written in Python."""
        ids: list[int] = []
        for text, is_control in parts:
            if is_control:
                ids.append(self.tokenizer.convert_tokens_to_ids(text))
            elif text:
                plain = self.tokenizer(self.restored(text), add_special_tokens=False, split_special_tokens=True)
                ids += plain["input_ids"]
        return ids

    @cached_property
    def _stand_ins(self) -> tuple[Any, dict[str, str], Ids] | None:
        """A copy of the tokenizer that reads control tokens as text and their stand-ins as control tokens; the stand-ins; and the
        id behind each of its ids, -1 for nothing."""
        from tokenizers import AddedToken, Tokenizer

        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            return None
        copy = Tokenizer.from_str(fast.to_str())
        copy.no_truncation()
        copy.no_padding()
        copy.add_special_tokens(list(self.controls))  # also those that were added as ordinary ones
        copy.encode_special_tokens = True
        known = {token.content: token for token in self.tokenizer.added_tokens_decoder.values()}
        names = {control: f"{_LEAD}{place}{_END}" for place, control in enumerate(self.controls)}
        alike = [
            AddedToken(
                name, lstrip=known[control].lstrip, rstrip=known[control].rstrip, normalized=known[control].normalized
            )
            for control, name in names.items()
        ]
        copy.add_tokens([*alike, AddedToken(_BREAK, normalized=False)])
        size = max(copy.get_vocab(with_added_tokens=True).values()) + 1
        ids = np.arange(size, dtype=np.int32)
        for control, name in names.items():
            ids[copy.token_to_id(name)] = fast.token_to_id(control)
        ids[copy.token_to_id(_BREAK)] = -1
        return copy, names, ids
