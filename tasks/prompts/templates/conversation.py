"""A row and its template → the conversation in the format of chat templates: messages and tools. Pure.

The role of a row's `input` follows from its history: a tool, where the last turns are calls with fewer results than calls; the
assistant, where it writes text before a call; else the user, and then the instruction template writes the message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.prompts.templates.fill_template import write_answer, write_question
from tasks.prompts.templates.templates import InstructionTemplate
from tasks.records.languages import MIXED, language_of_last_turn
from tasks.records.ordered_json import for_templates
from tasks.scoring.targets import tool_calls_of

Message = dict[str, Any]
Turn = tuple[str, str]
THOUGHT = "reasoning_content"
"""Key of a message in chat templates: the assistant's reasoning before the answer."""
INPUT = "input"
"""The field of a request with its last turn; a request without this field ends in the last turn of its history."""
OF_REQUEST = ("system", "history", "instruction", INPUT, "tools", "thoughts", "language")
"""The fields of a row that its request has."""
UNTRAINED = "strop_untrained"
"""Key of a message: an answer that is context only, not trained. It is removed before a chat template is applied."""


@dataclass(frozen=True)
class Conversation:
    messages: list[Message]
    """The system turn, if any, and the other turns; the last is the answer, unless it is a request."""
    tools: tuple[dict[str, Any], ...] = ()
    """In OpenAI's form: {"type": "function", "function": {...}}."""
    language: str = "en"
    target: str = ""
    """The expected last answer: the row's output as the template writes it, without the constant text around it."""
    ends_in_call: bool = False

    @property
    def has_tools(self) -> bool:
        return bool(self.tools) or any(m["role"] == "tool" or "tool_calls" in m for m in self.messages)

    def texts(self) -> Iterator[str]:
        """All texts, before a chat template is applied."""
        for message in self.messages:
            yield message["content"]
            if len(message) > 2:
                yield json.dumps(message, ensure_ascii=False, default=str)
        if self.tools:
            yield json.dumps(self.tools, ensure_ascii=False, default=str)


def make_conversation(template: InstructionTemplate, row: Mapping[str, Any]) -> Conversation:
    """The row's conversation.

    Raises:
        ConfigError: the template names an unknown field, or does something that the sandbox forbids.
    """
    row, history = _in_one_language(row), _history_of(row)
    calls = tool_calls_of(row["output"])
    role = _role_of_input(history, calls is not None)
    answer = write_answer(template, row) if calls is None else row["output"]
    turns = [*history, _input_turn(template, row, role), ("assistant" if calls is None else "tool_call", answer)]
    target = row["output"] if calls is not None else template.frame.remove_from(answer)
    messages = _messages(template, row, turns)
    return Conversation(messages, _tools(row.get("tools", "")), row["language"], target, calls is not None)


def make_context(template: InstructionTemplate, fields: Mapping[str, Any]) -> Conversation:
    """The conversation of a request (`request_of`, or a user's fields): up to its answer, which is not known.

    Raises:
        ConfigError: as for `make_conversation`.
    """
    fields, turns = _in_one_language(fields), _history_of(fields)
    if INPUT in fields:
        turns = [*turns, _input_turn(template, fields, _role_of_input(turns, ends_in_call=False))]
    messages = _messages(template, fields, [*turns, ("assistant", "")])[:-1]
    return Conversation(messages, _tools(fields.get("tools", "")), fields["language"])


def request_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as a request: without its answer. Text of the assistant before a call is a part of the answer, not of the request;
    then the request has no INPUT, and its last turn is that of the history."""
    request = {name: row[name] for name in OF_REQUEST if name in row}
    is_call = tool_calls_of(row["output"]) is not None
    thoughts = [[index, text] for index, text in json.loads(row.get("thoughts") or "[]") if index < -1]
    if is_call and _role_of_input(_history_of(row), ends_in_call=True) == "assistant":
        del request[INPUT]
        thoughts = [[index + 1, text] for index, text in thoughts if index < -2]
    return request | {"thoughts": json.dumps(thoughts, ensure_ascii=False) if thoughts else ""}


def _in_one_language(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**row, "language": language_of_last_turn(row)} if row["language"] == MIXED else row


def _history_of(row: Mapping[str, Any]) -> list[Turn]:
    return [(speaker, text) for speaker, text in json.loads(row["history"])]


def _input_turn(template: InstructionTemplate, row: Mapping[str, Any], role: str) -> Turn:
    return role, write_question(template, row) if role == "user" else row[INPUT]


def _messages(template: InstructionTemplate, row: Mapping[str, Any], turns: list[Turn]) -> list[Message]:
    """The messages of the row: its system turn, and its turns with their flags and thoughts."""
    system = row["system"] or template.system
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    untrained = json.loads(row.get("untrained") or "[]")
    thoughts = dict(json.loads(row.get("thoughts") or "[]"))
    for index, (speaker, text) in enumerate(turns, start=-len(turns)):
        _add(messages, speaker, text)
        if index in untrained:
            messages[-1][UNTRAINED] = True
        if index in thoughts:
            messages[-1][THOUGHT] = thoughts[index]
    return messages


def _role_of_input(history: list[Turn], ends_in_call: bool) -> str:
    if not history:
        return "user"
    roles = [role for role, _ in history]
    if roles[-1] == "tool_call":
        return "tool"
    if roles[-1] == "user":
        return "assistant"
    if roles[-1] == "tool":
        index = len(roles) - 1 - roles[::-1].index("tool_call")
        answers = len(roles) - 1 - index
        calls = len(tool_calls_of(history[index][1]) or ()) or 1
        return "tool" if not ends_in_call or answers < calls else "assistant"
    return "user"


def _add(messages: list[Message], role: str, text: str) -> None:
    """Adds a turn; calls are merged into the assistant's message before them."""
    if role != "tool_call":
        messages.append({"role": role, "content": text})
        return
    calls = tool_calls_of(text)
    if calls is None:  # a call in an unknown form stays text
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
    """The same for a chat template without tools: they are listed in the system turn; calls and results are text."""
    system = next((m["content"] for m in conversation.messages if m["role"] == "system"), "")
    if conversation.tools:
        functions = [json.dumps(tool["function"], ensure_ascii=False) for tool in conversation.tools]
        instruction = TOOL_INSTRUCTIONS.get(conversation.language, TOOL_INSTRUCTIONS["en"])
        system = "\n\n".join([*([system] if system else []), "\n".join([instruction, *functions])])
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for message in conversation.messages:
        if message["role"] == "system":
            continue
        text = _text_with_calls(message)
        role = "user" if message["role"] == "tool" else message["role"]
        if messages and messages[-1]["role"] == role == "user":  # results of several tools
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n{text}"}
        else:
            kept = {key: message[key] for key in (UNTRAINED, THOUGHT) if key in message}
            messages.append({"role": role, "content": text, **kept})
    return replace(conversation, messages=messages, tools=())


def with_answer_as_text(conversation: Conversation) -> Conversation:
    """The same with the calls of its answer as text."""
    *context, answer = conversation.messages
    kept = {key: value for key, value in answer.items() if key != "tool_calls"}
    return replace(conversation, messages=[*context, {**kept, "content": _text_with_calls(answer)}])


def _text_with_calls(message: Message) -> str:
    """The text of a message, with its calls as JSON."""
    text: str = message["content"]
    if not (calls := message.get("tool_calls")):
        return text
    calls_as_json = json.dumps([call["function"] for call in calls], ensure_ascii=False)
    return f"{text}\n{calls_as_json}" if text else calls_as_json


def with_system_folded(conversation: Conversation) -> Conversation:
    """The same for a chat template without a system turn: its text is put before the first user turn."""
    messages = conversation.messages
    if len(messages) < 2 or messages[0]["role"] != "system":
        return conversation
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return replace(conversation, messages=[first, *messages[2:]])


TOOL_INSTRUCTIONS = {
    "en": 'You may call these tools. To call them, answer with a JSON list and nothing else: [{"name": ..., "arguments": {...}}]',
    "zh": '你可以调用下列工具。需要调用时，只回答一个 JSON 列表：[{"name": ..., "arguments": {...}}]',
}
"""Language → the text that lists the tools where the chat template cannot; one line per tool follows."""
