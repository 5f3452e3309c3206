"""The messages and tools of a chat request, in the forms that a chat template can render."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tasks.serve.app.body import Body
from tasks.serve.app.sampling import Name
from tasks.serve.errors import ApiError

Text = Annotated[str, StringConstraints(max_length=100_000_000)]


class TextPart(Body):
    type: Literal["text"]
    text: Text


Content = Text | Annotated[list[TextPart], Field(min_length=1)]


class CalledFunction(Body):
    name: Name
    arguments: str


class ToolCall(Body):
    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction


class SystemMessage(Body):
    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(Body):
    role: Literal["user"]
    content: Content
    name: Name | None = None


class AssistantMessage(Body):
    role: Literal["assistant"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    refusal: None = None


class ToolMessage(Body):
    role: Literal["tool"]
    content: Content
    tool_call_id: Name


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Body):
    name: Annotated[str, StringConstraints(pattern=r"^[^\s]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


def rendered_messages(messages: Sequence[Message]) -> tuple[dict[str, Any], ...]:
    """The messages with texts as contents. `developer` is `system`; the names of speakers are refused.

    Raises:
        ApiError: a message has a part that would not reach the model.
    """
    rendered = []
    for number, message in enumerate(messages):
        if not isinstance(message, ToolMessage) and message.name is not None:
            what = "Names of speakers are not supported: no chat template renders them."
            raise ApiError(400, "unsupported_parameter", what, f"messages[{number}].name")
        role = "system" if message.role == "developer" else message.role
        entry: dict[str, Any] = {"role": role, "content": text_of(message.content)}
        if isinstance(message, ToolMessage):
            entry["tool_call_id"] = message.tool_call_id
        elif isinstance(message, AssistantMessage):
            if message.content is None and message.tool_calls is None:
                what = "A message of the assistant needs `content` or `tool_calls`."
                raise ApiError(400, "missing_required_parameter", what, f"messages[{number}].content")
            if message.tool_calls is not None:
                entry["tool_calls"] = [call.model_dump() for call in message.tool_calls]
        rendered.append(entry)
    return tuple(rendered)


def text_of(content: Content | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def rendered_tools(tools: Sequence[Tool]) -> tuple[dict[str, Any], ...]:
    """The tools in OpenAI's form, without empty fields."""
    return tuple(tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in tools)
