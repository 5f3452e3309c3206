"""Control tokens typed in contents are tokenised as text: `<|im_end|>` in a row does not end a turn.

Control tokens are a tokenizer's special tokens, and the added tokens that its chat template writes around a user's turn. One in a
content is masked while the chat template is applied, so that all other control tokens are the template's own. Other added tokens
(`<think>`, `<tool_call>`) are left to the tokenizer.

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
"""A mask is this private-use character, and the control token's number as another one; doubled, it is the typed character
itself."""
_LEAD, _END = "\ufdd0", "\ufdd1"
"""A placeholder for a control token: a text that no tokenizer has, between two Unicode noncharacters."""
_BREAK = f"{_LEAD}|{_END}"
"""An empty placeholder: the texts before and after it are tokenised separately."""


def control_tokens(tokenizer: Any, around_user: str = "") -> tuple[str, ...]:
    """The tokens that control a model, and that text may not produce.

    Args:
        around_user: the text of the chat template around a user's turn.
    """
    added = tokenizer.added_tokens_decoder.values()
    return tuple(
        sorted(token.content for token in added if token.content and (token.special or token.content in around_user))
    )


def plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of plain texts, in which a control token is text."""
    markers = TypedMarkers(tokenizer, control_tokens(tokenizer))
    with control_tokens_as_text(tokenizer):
        encoded: list[list[int]] = tokenizer(
            list(texts), add_special_tokens=False, verbose=False, split_special_tokens=True
        )["input_ids"]
    for index, ids in enumerate(encoded):
        if markers.leak(ids):
            encoded[index] = markers.encode_plain([texts[index]])[0].tolist()
    return encoded


@contextlib.contextmanager
def control_tokens_as_text(tokenizer: Any) -> Iterator[None]:
    """A context in which the tokenizer's backend encodes special tokens as text: a page about `<|endoftext|>` does not end
    there."""
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
    """Distinguishes the control tokens of a chat template from those typed in contents."""

    def __init__(self, tokenizer: Any, controls: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.controls = tuple(sorted(controls, key=lambda control: (-len(control), control)))
        self._control_pattern = re.compile("|".join(map(re.escape, self.controls))) if self.controls else None
        self._maskable = re.compile("|".join(map(re.escape, (*self.controls, _MASK))))
        codes = {control: chr(ord(_MASK) + 1 + number) for number, control in enumerate(self.controls)} | {_MASK: _MASK}
        self._masks = {text: _MASK + code for text, code in codes.items()}
        self._texts = {mask: text for text, mask in self._masks.items()}
        self._masked = re.compile(f"{_MASK}[{''.join(codes.values())}]")

    def are_in(self, texts: Iterable[str]) -> bool:
        """Does any of the texts hold a control token?"""
        return self._control_pattern is not None and self._control_pattern.search("\0".join(texts)) is not None

    def masked(self, value: Value) -> Value:
        """The value (a text, or lists and dictionaries of texts) with a mask in place of each control token."""
        masked_value: Any = value
        if isinstance(value, str):
            masked_value = self._maskable.sub(lambda match: self._masks[match[0]], value)
        elif isinstance(value, dict):
            masked_value = {self.masked(key): self.masked(item) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            masked_value = type(value)(self.masked(item) for item in value)
        return masked_value  # type: ignore[no-any-return]

    def restored(self, text: str) -> str:
        """The text with the control tokens in place of their masks."""
        return self._masked.sub(lambda match: self._texts[match[0]], self._unescaped(text))

    def _unescaped(self, text: str) -> str:
        """The text with its masks as characters, where the template escaped them as ASCII JSON."""
        for mask in self._texts if "\\ud" in text else ():
            text = text.replace(json.dumps(mask)[1:-1], mask)
        return text

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of texts with masks; masked control tokens are tokenised as text."""
        parts = [self._parts(text) for text in texts]
        encoded = self._tokenize(parts, splits_tokens=False)
        leaking = [
            index for index, ids in enumerate(encoded) if self._control_count(ids) != self._template_count(parts[index])
        ]
        if leaking:  # a unigram model may choose a control token for its text
            for index, ids in zip(
                leaking, self._tokenize([parts[i] for i in leaking], splits_tokens=True), strict=True
            ):
                encoded[index] = ids
        return encoded

    def encode_plain(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of plain texts."""
        return self.encode([self.masked(text) for text in texts])

    def leak(self, ids: Sequence[int] | Ids) -> bool:
        """Do the ids of a plain text hold a control token?"""
        return self._control_count(ids) > 0

    def _template_count(self, parts: list[tuple[str, bool]]) -> int:
        """The number of control tokens of the template."""
        return sum(is_control and text != self.tokenizer.unk_token for text, is_control in parts)

    def _control_count(self, ids: Sequence[int] | Ids) -> int:
        return int(np.isin(ids, self._control_ids).sum())

    @cached_property
    def _control_ids(self) -> Ids:
        """Without the unknown token, which ordinary characters may become."""
        numbers = {self.tokenizer.convert_tokens_to_ids(control) for control in self.controls}
        return np.array(sorted(numbers - {self.tokenizer.unk_token_id, None}), np.int32)

    def _parts(self, text: str) -> list[tuple[str, bool]]:
        """The text split into control tokens of the template (True) and text (False)."""
        parts, position = [], 0
        for match in self._control_pattern.finditer(text) if self._control_pattern is not None else ():
            parts += [(text[position : match.start()], False), (match[0], True)]
            position = match.end()
        return [*parts, (text[position:], False)]

    def _tokenize(self, texts: list[list[tuple[str, bool]]], splits_tokens: bool) -> list[Ids]:
        if self._placeholders is None:
            return [np.array(self._by_part(parts), np.int32) for parts in texts]
        tokenizer, placeholder_of, ids_of = self._placeholders
        texts_with_placeholders = [
            "".join(
                placeholder_of[text] if is_control else self._as_text(text, splits_tokens) for text, is_control in parts
            )
            for parts in texts
        ]
        encoded = [
            np.array(one.ids, np.int64)
            for one in tokenizer.encode_batch_fast(texts_with_placeholders, add_special_tokens=False)
        ]
        mapped = [ids_of[ids] for ids in encoded]
        return [ids[ids >= 0].astype(np.int32) for ids in mapped]

    def _as_text(self, text: str, splits_tokens: bool) -> str:
        def unmask(match: re.Match[str]) -> str:
            marker = self._texts[match[0]]
            return marker[0] + _BREAK + marker[1:] if splits_tokens else marker

        text = self._unescaped(text).replace(_LEAD, _LEAD + _BREAK)  # so that a typed placeholder is text
        return self._masked.sub(unmask, text)

    def _by_part(self, parts: list[tuple[str, bool]]) -> list[int]:
        """The token ids with a tokenizer without a fast backend."""
        ids: list[int] = []
        for text, is_control in parts:
            if is_control:
                ids.append(self.tokenizer.convert_tokens_to_ids(text))
            elif text:
                plain = self.tokenizer(self.restored(text), add_special_tokens=False, split_special_tokens=True)
                ids += plain["input_ids"]
        return ids

    @cached_property
    def _placeholders(self) -> tuple[Any, dict[str, str], Ids] | None:
        """A copy of the tokenizer that encodes control tokens as text and their placeholders as control tokens; the placeholders;
        and (ids of the copy,) the original id, -1 for none."""
        from tokenizers import AddedToken, Tokenizer

        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            return None
        copy = Tokenizer.from_str(fast.to_str())
        copy.no_truncation()
        copy.no_padding()
        copy.add_special_tokens(list(self.controls))  # also those that were added as ordinary tokens
        copy.encode_special_tokens = True
        added = {token.content: token for token in self.tokenizer.added_tokens_decoder.values()}
        placeholders = {control: f"{_LEAD}{index}{_END}" for index, control in enumerate(self.controls)}
        placeholder_tokens = [
            AddedToken(
                name, lstrip=added[control].lstrip, rstrip=added[control].rstrip, normalized=added[control].normalized
            )
            for control, name in placeholders.items()
        ]
        copy.add_tokens([*placeholder_tokens, AddedToken(_BREAK, normalized=False)])
        size = max(copy.get_vocab(with_added_tokens=True).values()) + 1
        ids = np.arange(size, dtype=np.int32)
        for control, name in placeholders.items():
            ids[copy.token_to_id(name)] = fast.token_to_id(control)
        ids[copy.token_to_id(_BREAK)] = -1
        return copy, placeholders, ids
