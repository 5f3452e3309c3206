"""The text of chat templates in bulk: what a template writes around the contents is asked for once a shape of conversation.

A shape is the order of the turns, and which of them are empty. It is found by contents that stand in for the real ones, and holds
where the template looks at no content: a template that compares contents with some text (`'</think>' in content`) is asked itself
for every row that holds this text, and so is it for tools. Some rows of each call are compared with what the template says itself;
one that differs ends the shortcut for good. tests/render/test_quick.py compares both on many conversations.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from jinja2 import Environment, TemplateError, nodes

from tasks.render.chat import ChatFormat, Texts
from tasks.render.conversation import Conversation, Message

Shape = tuple[tuple[str, bool], ...]
Piece = tuple[str | int, ...]
"""Constant texts, and the numbers of the messages whose contents stand between them."""
Edges = Literal["keep", "strip", "clean"]
"""White space around contents: the template keeps it, takes it off, or does what we do not follow: then contents must have none."""

CHECKED_ROWS = 3
"""Rows of each call that are compared with the template itself."""
_ROLES = {"system", "user", "assistant", "tool", "ipython", "function", "developer", "model"}
_KEYS = {"role", "content", "name", "tool_calls", "reasoning_content", "thinking", "arguments", "parameters"}
"""Of a message or a call: sought in it, not in what is said."""
_PADDED = (" \n\t word {} \ue000\n line {} \n ", "\n\n {}\n", " {}  ", "\u3000{}\u3000", "\t{}\n\n")


class QuickFormat:
    """The sequences of `ChatFormat`, by shape."""

    def __init__(self, chat: ChatFormat) -> None:
        self.chat = chat
        self.marks = compared_texts(chat.tokenizer.chat_template)
        self.is_on = self.marks is not None
        self._shapes: dict[tuple[Shape, bool], tuple[list[list[Piece]], Edges] | None] = {}

    def sequences(self, conversations: list[Conversation], every: bool) -> list[list[Texts]]:
        """The sequences of each (fitted) conversation, in their order."""
        checked = 0
        results = []
        for conversation in conversations:
            quick = self._quick(conversation, every) if self.is_on else None
            if quick is not None and checked < CHECKED_ROWS:
                checked += 1
                if quick != self.chat.sequences(conversation, every):
                    self.is_on = False
                    return self.sequences(conversations, every)
            results.append(self.chat.sequences(conversation, every) if quick is None else quick)
        return results

    def _quick(self, conversation: Conversation, every: bool) -> list[Texts] | None:
        if conversation.has_tools:
            return None
        contents = [m["content"] for m in conversation.messages]
        assert self.marks is not None
        for mark in self.marks:
            if any(mark in content for content in contents):
                return None
        key = tuple((m["role"], not content) for m, content in zip(conversation.messages, contents, strict=True)), every
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
            if edges == "strip" and any(not now and was for now, was in zip(stripped, contents, strict=True)):
                return None  # blank is not empty to a template that looks
            contents = stripped
        return _filled(sequences, contents)

    def _find(self, shape: Shape, every: bool) -> tuple[list[list[Piece]], Edges] | None:
        """The constant texts of a shape, and what becomes of white space around contents; None if they are not constant."""

        def asked(write: Callable[[int], str]) -> tuple[list[str], list[Texts]]:
            contents = ["" if empty else write(place) for place, (_, empty) in enumerate(shape)]
            messages: list[Message] = [
                {"role": role, "content": content} for (role, _), content in zip(shape, contents, strict=True)
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


def compared_texts(chat_template: Any) -> tuple[str, ...] | None:
    """The texts that a chat template may compare contents with; None where that cannot be told.

    They are the constants that are sought (`in`), stand in a call (`split`, `startswith`, `replace`), or are compared (`==`) with
    what is no role.
    """
    if not isinstance(chat_template, str):
        return None
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"]).parse(
            _without_generation(chat_template)
        )
    except TemplateError:
        return None
    found: set[str] = set()
    for compare in tree.find_all(nodes.Compare):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        is_sought = any(operand.op in ("in", "notin") for operand in compare.ops)
        found |= {c for side in sides for c in _constants(side) if is_sought or c not in _ROLES}
    calls = [
        call for call in tree.find_all(nodes.Call) if not isinstance(call.node, nodes.Name)
    ]  # no raise_exception("...")
    for told in (*calls, *tree.find_all(nodes.Filter), *tree.find_all(nodes.Test)):
        assert isinstance(told, (nodes.Call, nodes.Filter, nodes.Test))
        found |= {c for argument in (*told.args, *told.kwargs) for c in _constants(argument)}
    return tuple(sorted(text for text in found if text.strip() and text not in _KEYS))


def _constants(node: nodes.Node) -> set[str]:
    own = [node] if isinstance(node, nodes.Const) else []
    return {c.value for c in [*own, *node.find_all(nodes.Const)] if isinstance(c.value, str)}


def _without_generation(text: str) -> str:
    """`{% generation %}` is transformers' own tag, and says nothing of contents."""
    return re.sub(r"{%-?\s*(?:end)?generation\s*-?%}", "", text)
