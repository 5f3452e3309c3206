"""The text of chat templates in bulk: what a template writes around the contents is asked for once a shape of conversation.

A shape is the order of the turns, and which of them are empty. It is found by contents that stand in for the real ones, and holds
where the template looks at no content: one that compares contents with a text (`'</think>' in content`) is asked itself for every
row that holds this text, one that does more with them for every row (template_analysis.py), and so is it for tools. Some rows of
each call are compared with what the template says itself; where one differs, it is asked for all rows of the call.
tests/render/test_quick.py compares both on many conversations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from zlib import crc32

from tasks.render.templates.chat_template import ChatFormat, Texts
from tasks.render.templates.conversation import THOUGHT, UNTRAINED, Conversation, Message
from tasks.render.templates.template_analysis import compared_texts

Shape = tuple[tuple[str, bool, bool], ...]
"""Of each message: its role, whether its content is empty, whether it is an answer that is not trained."""
Piece = tuple[str | int, ...]
"""Constant texts, and the numbers of the messages whose contents stand between them."""
Edges = Literal["keep", "strip", "clean"]
"""White space around contents: the template keeps it, takes it off, or does what we do not follow: then contents must have none."""

CHECKED_ROWS = 3
"""Rows of each call that are compared with the template itself."""
_PADDED = (" \n\t word {} \ue000\n line {} \n ", "\n\n {}\n", " {}  ", "\u3000{}\u3000", "\t{}\n\n")


class QuickFormat:
    """The sequences of `ChatFormat`, by shape."""

    def __init__(self, chat: ChatFormat) -> None:
        self.chat = chat
        self.marks = compared_texts(chat.tokenizer.chat_template)
        self._shapes: dict[tuple[Shape, bool], tuple[list[list[Piece]], Edges] | None] = {}

    def sequences(self, conversations: list[Conversation], every: bool) -> list[list[Texts]]:
        """The sequences of each (fitted) conversation, in their order."""
        if self.marks is None:
            return [self.chat.sequences(conversation, every) for conversation in conversations]
        results = [self._quick(conversation, every) for conversation in conversations]
        quick = [place for place, result in enumerate(results) if result is not None]
        for place in _checked(quick, conversations):
            if results[place] != self.chat.sequences(conversations[place], every):
                return [self.chat.sequences(conversation, every) for conversation in conversations]
        return [
            self.chat.sequences(conversation, every) if result is None else result
            for conversation, result in zip(conversations, results, strict=True)
        ]

    def _quick(self, conversation: Conversation, every: bool) -> list[Texts] | None:
        if conversation.has_tools or any(THOUGHT in m for m in conversation.messages):
            return None
        contents = [m["content"] for m in conversation.messages]
        assert self.marks is not None
        for mark in self.marks:
            if any(mark in content for content in contents):
                return None
        if any(content and not content.strip() for content in contents):
            return None  # blank is not empty, and is to a template that trims and looks
        shape = zip(conversation.messages, contents, strict=True)
        key = tuple((m["role"], not content, UNTRAINED in m) for m, content in shape), every
        if key not in self._shapes:
            self._shapes[key] = self._find(*key)
        found = self._shapes[key]
        if found is None:
            return None
        sequences, edges = found
        if edges != "keep":
            stripped = [content.strip() for content in contents]
            if edges == "clean" and stripped != contents:
                return None
            contents = stripped
        return _filled(sequences, contents)

    def _find(self, shape: Shape, every: bool) -> tuple[list[list[Piece]], Edges] | None:
        """The constant texts of a shape, and what becomes of white space around contents; None if they are not constant."""

        def asked(write: Callable[[int], str]) -> tuple[list[str], list[Texts]]:
            contents = ["" if empty else write(place) for place, (_, empty, _) in enumerate(shape)]
            messages: list[Message] = [
                {"role": role, "content": content, **({UNTRAINED: True} if is_untrained else {})}
                for (role, _, is_untrained), content in zip(shape, contents, strict=True)
            ]
            return contents, self.chat.sequences(Conversation(messages), every)

        contents, texts = asked(lambda place: f"\ue000{place}\ue001")
        sequences = [[_split(text, contents) for text in sequence] for sequence in texts]
        contents, texts = asked(lambda place: f"# Title {place}\n\n  A line: \ue000, 中文。\n<b>{{{{ x }}}}</b> [end]")
        if _filled(sequences, contents) != texts:
            return None
        padded = [asked(lambda place, form=form: form.format(place, place)) for form in _PADDED]  # type: ignore[misc]
        if all(_filled(sequences, contents) == texts for contents, texts in padded):
            return sequences, "keep"
        if all(_filled(sequences, [each.strip() for each in contents]) == texts for contents, texts in padded):
            return sequences, "strip"
        return sequences, "clean"


def _checked(places: list[int], conversations: list[Conversation]) -> set[int]:
    """The row of the most text, and some picked by their text: not those that happen to stand first."""
    said = {place: [m["content"] for m in conversations[place].messages] for place in places}
    longest = sorted(places, key=lambda place: -sum(map(len, said[place])))[:1]
    picked = sorted(places, key=lambda place: crc32("".join(said[place]).encode("utf-8", "replace")))
    return {*longest, *picked[: CHECKED_ROWS - 1]}


def _split(text: str, contents: list[str]) -> Piece:
    """The text as constants and places of contents."""
    parts: list[str | int] = [text]
    for place, content in enumerate(contents):
        if not content:
            continue
        split: list[str | int] = []
        for part in parts:
            if isinstance(part, str):
                for number, constant in enumerate(part.split(content)):
                    split += [constant] if number == 0 else [place, constant]
            else:
                split.append(part)
        parts = split
    return tuple(part for part in parts if part != "")


def _filled(sequences: list[list[Piece]], contents: list[str]) -> list[Texts]:
    return [
        ["".join([part if isinstance(part, str) else contents[part] for part in piece]) for piece in sequence]
        for sequence in sequences
    ]
