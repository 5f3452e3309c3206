"""A row and its template → the conversation, as chat templates take it: messages, and the tools that may be called. Pure.

Who spoke a row's `input` is seen from its history: a tool, where the last turns are calls and fewer answers than calls; the
assistant, where it says something before a call; else the user, and then the instruction template says it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.records.languages import MIXED, language_of_last_turn
from tasks.records.ordered_json import for_templates
from tasks.render.templates.templates import InstructionTemplate, write_answer, write_question
from tasks.scoring.targets import tool_calls_of

Message = dict[str, Any]
Turn = tuple[str, str]
THOUGHT = "reasoning_content"
"""Key of a message, as chat templates know it: what the assistant thought before it answered."""
UNTRAINED = "strop_untrained"
"""Key of a message of ours: an answer that stands in the context alone. No chat template is shown it."""


@dataclass(frozen=True)
class Conversation:
    messages: list[Message]
    """System turn, if any, and turns; the last is the answer."""
    tools: tuple[dict[str, Any], ...] = ()
    """In OpenAI's form: {"type": "function", "function": {...}}."""
    language: str = "en"
    target: str = ""
    """What the last answer is scored against: the row's output as the template writes it, without what stands around it."""
    ends_in_call: bool = False

    @property
    def has_tools(self) -> bool:
        return bool(self.tools) or any(m["role"] == "tool" or "tool_calls" in m for m in self.messages)


def make_conversation(template: InstructionTemplate, row: Mapping[str, Any]) -> Conversation:
    """The row's conversation.

    Raises:
        ConfigError: the template names a field that there is not, or does what the sandbox forbids.
    """
    row = {**row, "language": language_of_last_turn(row)} if row["language"] == MIXED else row
    history: list[Turn] = [] if row["history"] == "[]" else [(who, text) for who, text in json.loads(row["history"])]
    calls = tool_calls_of(row["output"])
    asked_by = _who_asked(history, calls is not None) if history else "user"
    asked = write_question(template, row) if asked_by == "user" else row["input"]
    answer = write_answer(template, row) if calls is None else row["output"]
    turns = [*history, (asked_by, asked), ("assistant" if calls is None else "tool_call", answer)]
    system = row["system"] or template.system
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    untrained = json.loads(row.get("untrained") or "[]")
    thoughts = dict(json.loads(row.get("thoughts") or "[]"))
    for place, (who, text) in enumerate(turns, start=-len(turns)):
        _add(messages, who, text)
        if place in untrained:
            messages[-1][UNTRAINED] = True
        if place in thoughts:
            messages[-1][THOUGHT] = thoughts[place]
    target = row["output"] if calls is not None else template.frame.remove_from(answer)
    return Conversation(messages, _tools(row.get("tools", "")), row["language"], target, calls is not None)


def _who_asked(history: list[Turn], ends_in_call: bool) -> str:
    roles = [who for who, _ in history]
    if roles[-1] == "tool_call":
        return "tool"
    if roles[-1] == "user":
        return "assistant"
    if roles[-1] == "tool":
        place = len(roles) - 1 - roles[::-1].index("tool_call")
        answers = len(roles) - 1 - place
        calls = len(tool_calls_of(history[place][1]) or ()) or 1
        return "tool" if not ends_in_call or answers < calls else "assistant"
    return "user"


def _add(messages: list[Message], who: str, text: str) -> None:
    """Adds a turn; calls join the words that the assistant said before them."""
    if who != "tool_call":
        messages.append({"role": who, "content": text})
        return
    calls = tool_calls_of(text)
    if calls is None:  # a call in no form that we know stays text
        messages.append({"role": "assistant", "content": text})
        return
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    functions = [{"name": call["name"], "arguments": call["arguments"]} for call in for_templates(text)]
    messages[-1] |= {"tool_calls": [{"type": "function", "function": function} for function in functions]}


def _tools(text: str) -> tuple[dict[str, Any], ...]:
    if not text:
        return ()
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in for_templates(text))


def as_text(conversation: Conversation) -> Conversation:
    """The same for a chat template that knows no tools: they stand in the system turn, calls and answers are text."""
    system = next((m["content"] for m in conversation.messages if m["role"] == "system"), "")
    if conversation.tools:
        functions = [json.dumps(tool["function"], ensure_ascii=False) for tool in conversation.tools]
        told = TOOLS_SAID.get(conversation.language, TOOLS_SAID["en"])
        system = "\n\n".join([*([system] if system else []), "\n".join([told, *functions])])
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for message in conversation.messages:
        if message["role"] == "system":
            continue
        text = message["content"]
        if calls := message.get("tool_calls"):
            said = json.dumps([call["function"] for call in calls], ensure_ascii=False)
            text = f"{text}\n{said}" if text else said
        role = "user" if message["role"] == "tool" else message["role"]
        if messages and messages[-1]["role"] == role == "user":  # several tools answered
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n{text}"}
        else:
            kept = {key: message[key] for key in (UNTRAINED, THOUGHT) if key in message}
            messages.append({"role": role, "content": text, **kept})
    return Conversation(messages, (), conversation.language, conversation.target, conversation.ends_in_call)


def with_system_folded(conversation: Conversation) -> Conversation:
    """The same for a chat template that knows no system turn: its text begins the first user turn."""
    messages = conversation.messages
    if messages[0]["role"] != "system":
        return conversation
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return Conversation(
        [first, *messages[2:]],
        conversation.tools, conversation.language, conversation.target, conversation.ends_in_call,
    )  # fmt: skip


TOOLS_SAID = {
    "en": (
        'You may call these tools. To call them, answer with a JSON list and nothing else: [{"name": ..., "arguments": {...}}]'
    ),
    "zh": '你可以调用下列工具。需要调用时，只回答一个 JSON 列表：[{"name": ..., "arguments": {...}}]',
}
"""How tools are told where the chat template has no way of its own; a line a tool follows."""
