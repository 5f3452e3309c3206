"""generate and chat: inference on this machine."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.common import Json, as_text, console, enter_project, print_json
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from flows.inference import LoadedModel


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

EXIT = {"/exit", "/quit"}


def generate(
    prompt: Annotated[str, typer.Argument(callback=as_text, help="The prompt; - reads it from standard input.")],
    to: To = "champion",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = 17,
    system: System = None,
    as_json: Json = False,
) -> None:
    """Generate one answer; a classifier prints the label of the text."""
    config = enter_project()
    prompt_text = as_text(sys.stdin.read()) if prompt == "-" else prompt
    if not prompt_text.strip():
        raise typer.BadParameter("The prompt is empty.")
    from flows.inference import Sampling, load_model, stream_answer

    loaded = load_model(config, to, must_generate=False)
    if loaded.labels is not None:
        _label(loaded, prompt_text, config.render.max_length_tokens, as_json)
        return
    messages = [*_system_message(system), {"role": "user", "content": prompt_text}]
    pieces = stream_answer(loaded, messages, Sampling(max_tokens, temperature, top_p, seed))
    if as_json:
        print_json({"model": loaded.name, "prompt": prompt_text, "answer": "".join(pieces).strip()})
        return
    for piece in pieces:
        print(printable(piece), end="", flush=True)
    print()


def chat(
    to: To = "champion",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.9,
    seed: Seed = 17,
    system: System = None,
) -> None:
    """Chat with a model. /new starts a new conversation; /exit or Ctrl-D ends."""
    config = enter_project()
    from flows.inference import Sampling, load_model, stream_answer

    screen = console()
    with screen.status("loading …"):
        loaded = load_model(config, to)
    screen.print(f"[bold]{loaded.name}[/]. /new starts a new conversation, /exit ends; Ctrl-C stops an answer.\n")
    messages = _system_message(system)
    while (prompt_text := _read_prompt()) is not None:
        if prompt_text == "/new":
            messages = _system_message(system)
            continue
        if not prompt_text:
            continue
        sampling = Sampling(max_tokens, temperature, top_p, seed + len(messages) // 2)  # another seed for each turn
        messages.append({"role": "user", "content": prompt_text})
        pieces: list[str] = []
        with contextlib.suppress(KeyboardInterrupt):
            for piece in stream_answer(loaded, messages, sampling):
                pieces.append(piece)
                print(printable(piece), end="", flush=True)
        print("\n")
        messages.append({"role": "assistant", "content": "".join(pieces).strip()})


def _label(loaded: LoadedModel, text: str, max_length_tokens: int, as_json: bool) -> None:
    from flows.inference import label_text

    probabilities = label_text(loaded, text, max_length_tokens)
    label, probability = next(iter(probabilities.items()))
    if as_json:
        facts = {"label": label, "probability": probability, "labels": probabilities}
        print_json({"model": loaded.name, "prompt": text} | facts)
    else:
        print(f"{printable(label)}  {probability:.1%}")


def _system_message(system: str | None) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}] if system else []


def _read_prompt() -> str | None:
    """The user's next line; None to exit."""
    try:
        prompt_text = as_text(input("> ")).strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return None if prompt_text in EXIT else prompt_text
