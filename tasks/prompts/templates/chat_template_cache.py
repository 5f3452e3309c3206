"""Chat templates in bulk: the text around the contents is computed once per shape of conversation, with placeholder contents.

A shape is the order of the turns, and which of them are empty. Its text is valid only where the template does not depend on
contents. A template that compares contents with a text (`'</think>' in content`) is applied itself to every row that holds this
text; one that does more with contents is applied to every row (template_analysis.py), as are conversations with tools. Some rows of
each call are compared with the template's own output; if one differs, the template is applied to all rows of the call.
tests/render/test_quick.py compares both on many conversations; benchmarks/chat_template.py measures the gain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from zlib import crc32

from tasks.prompts.templates.chat_template import ChatFormat, Texts
from tasks.prompts.templates.conversation import THOUGHT, UNTRAINED, Conversation, Message
from tasks.prompts.templates.template_analysis import compared_texts

Shape = tuple[tuple[str, bool, bool], ...]
"""For each message: its role, whether its content is empty, and whether it is an answer that is not trained."""
Piece = tuple[str | int, ...]
"""Constant texts, and the indices of the messages whose contents are between them."""
Edges = Literal["keep", "strip", "clean"]
"""White space around contents: the template keeps it, strips it, or does something else: then contents must have none."""

CHECKED_ROWS = 3
"""Rows of each call that are compared with the template's own output."""
_PADDED = (" \n\t word {} \ue000\n line {} \n ", "\n\n {}\n", " {}  ", "\u3000{}\u3000", "\t{}\n\n")


class ChatTemplateCache:
    """The sequences of `ChatFormat`, cached by shape."""

    def __init__(self, chat: ChatFormat) -> None:
        self.chat = chat
        self.compared = compared_texts(chat.tokenizer.chat_template)
        self._shapes: dict[tuple[Shape, bool], tuple[list[list[Piece]], Edges] | None] = {}

    def sequences(self, conversations: list[Conversation], all_turns: bool) -> list[list[Texts]]:
        """The sequences of each (adapted) conversation, in order."""
        if self.compared is None:
            return [self.chat.sequences(conversation, all_turns) for conversation in conversations]
        results = [self._from_cache(conversation, all_turns) for conversation in conversations]
        cached = [index for index, result in enumerate(results) if result is not None]
        for index in _rows_to_check(cached, conversations):
            if results[index] != self.chat.sequences(conversations[index], all_turns):
                return [self.chat.sequences(conversation, all_turns) for conversation in conversations]
        return [
            self.chat.sequences(conversation, all_turns) if result is None else result
            for conversation, result in zip(conversations, results, strict=True)
        ]

    def _from_cache(self, conversation: Conversation, all_turns: bool) -> list[Texts] | None:
        if conversation.has_tools or any(THOUGHT in m for m in conversation.messages):
            return None
        contents = [m["content"] for m in conversation.messages]
        assert self.compared is not None
        for text_compared in self.compared:
            if any(text_compared in content for content in contents):
                return None
        if any(content and not content.strip() for content in contents):
            return None  # blank is not empty, but a template that trims may treat it as empty
        shape = zip(conversation.messages, contents, strict=True)
        key = tuple((m["role"], not content, UNTRAINED in m) for m, content in shape), all_turns
        if key not in self._shapes:
            self._shapes[key] = self._probe_shape(*key)
        cached_shape = self._shapes[key]
        if cached_shape is None:
            return None
        sequences, edges = cached_shape
        if edges != "keep":
            stripped = [content.strip() for content in contents]
            if edges == "clean" and stripped != contents:
                return None
            contents = stripped
        return _fill(sequences, contents)

    def _probe_shape(self, shape: Shape, all_turns: bool) -> tuple[list[list[Piece]], Edges] | None:
        """The constant texts of a shape, and the handling of white space around contents; None if they are not constant."""

        def probe(write: Callable[[int], str]) -> tuple[list[str], list[Texts]]:
            contents = ["" if empty else write(index) for index, (_, empty, _) in enumerate(shape)]
            messages: list[Message] = [
                {"role": role, "content": content, **({UNTRAINED: True} if is_untrained else {})}
                for (role, _, is_untrained), content in zip(shape, contents, strict=True)
            ]
            return contents, self.chat.sequences(Conversation(messages), all_turns)

        contents, texts = probe(lambda index: f"\ue000{index}\ue001")
        sequences = [[_split(text, contents) for text in sequence] for sequence in texts]
        contents, texts = probe(lambda index: f"# Title {index}\n\n  A line: \ue000, 中文。\n<b>{{{{ x }}}}</b> [end]")
        if _fill(sequences, contents) != texts:
            return None
        padded = [probe(lambda index, padding=padding: padding.format(index, index)) for padding in _PADDED]  # type: ignore[misc]
        if all(_fill(sequences, contents) == texts for contents, texts in padded):
            return sequences, "keep"
        if all(_fill(sequences, [content.strip() for content in contents]) == texts for contents, texts in padded):
            return sequences, "strip"
        return sequences, "clean"


def _rows_to_check(indices: list[int], conversations: list[Conversation]) -> set[int]:
    """The row with the longest text, and some chosen by a hash of their text."""
    contents_of = {index: [m["content"] for m in conversations[index].messages] for index in indices}
    longest = sorted(indices, key=lambda index: -sum(map(len, contents_of[index])))[:1]
    by_hash = sorted(indices, key=lambda index: crc32("".join(contents_of[index]).encode("utf-8", "replace")))
    return {*longest, *by_hash[: CHECKED_ROWS - 1]}


def _split(text: str, contents: list[str]) -> Piece:
    """The text as constants and indices of contents."""
    parts: list[str | int] = [text]
    for index, content in enumerate(contents):
        if not content:
            continue
        split: list[str | int] = []
        for part in parts:
            if isinstance(part, str):
                for part_number, constant in enumerate(part.split(content)):
                    split += [constant] if part_number == 0 else [index, constant]
            else:
                split.append(part)
        parts = split
    return tuple(part for part in parts if part != "")


def _fill(sequences: list[list[Piece]], contents: list[str]) -> list[Texts]:
    return [
        ["".join([part if isinstance(part, str) else contents[part] for part in piece]) for piece in sequence]
        for sequence in sequences
    ]
