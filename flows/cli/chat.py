"""chat: a dialogue with a model on this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.common import as_text, console, enter_project
from tasks.runtime.visible_text import printable

To = Annotated[str, typer.Option(help="The model: champion, challenger, base, or a version number.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Maximum length of the answer, in tokens.")]
Temperature = Annotated[float, typer.Option(min=0, help="0: greedy decoding; higher values are more random.")]
TopP = Annotated[
    float,
    typer.Option(
        min=0.01, max=1, help="Nucleus sampling: sample from the most probable tokens with this total probability."
    ),
]
Seed = Annotated[int, typer.Option(help="The seed for sampling.")]
System = Annotated[str | None, typer.Option(callback=as_text, help="A system message.")]
Tools = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A JSON list of tools, in OpenAI's form, that the model may call.")
]

EXIT = {"/exit", "/quit"}


def chat(
    to: To = "champion",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.9,
    seed: Seed = 17,
    system: System = None,
    tools: Tools = None,
) -> None:
    """Chat with a model. /new starts a new conversation; /exit or Ctrl-D ends."""
    known_tools = read_tools(tools)
    config = enter_project()
    from flows.inference import Sampling, stream_answer
    from flows.load_model import load_model

    screen = console()
    with screen.status("loading …"):
        loaded = load_model(config, to)
    screen.print(f"[bold]{loaded.name}[/]. /new starts a new conversation, /exit ends; Ctrl-C stops an answer.\n")
    messages = system_message(system)
    while (prompt_text := _read_prompt()) is not None:
        if prompt_text == "/new":
            messages = system_message(system)
            continue
        if not prompt_text:
            continue
        sampling = Sampling(max_tokens, temperature, top_p, seed + len(messages) // 2)  # another seed for each turn
        messages.append({"role": "user", "content": prompt_text})
        pieces: list[str] = []
        with contextlib.suppress(KeyboardInterrupt):
            for piece in stream_answer(loaded, messages, sampling, known_tools):
                pieces.append(piece)
                print(printable(piece), end="", flush=True)
        print("\n")
        messages.append({"role": "assistant", "content": "".join(pieces).strip()})


def system_message(system: str | None) -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}] if system else []


def read_tools(path: Path | None) -> list[dict[str, Any]]:
    """The tools in a file.

    Raises:
        DataError: it is missing, or holds no JSON list of objects.
    """
    import json

    from tasks.errors import DataError
    from tasks.runtime.files import why_unreadable

    if path is None:
        return []
    try:
        tools = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(why_unreadable(error, path), where=str(path), fix="Fix --tools") from error
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        fix = 'Write a list: [{"type": "function", "function": {"name": …}}]'
        raise DataError("not a JSON list of tools", where=str(path), fix=fix)
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def _read_prompt() -> str | None:
    """The user's next line; None to exit."""
    try:
        prompt_text = as_text(input("> ")).strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return None if prompt_text in EXIT else prompt_text
