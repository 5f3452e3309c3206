"""generate and chat: ask a model on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.common import Json, as_text, console, enter_project, print_json
from tasks.runtime.visible_text import shown

if TYPE_CHECKING:
    from flows.inference import Speaker

PANEL = "Serving"

To = Annotated[str, typer.Option(help="Which model: champion, challenger, base, or a version's number.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
Temperature = Annotated[float, typer.Option(min=0, help="0 takes the likeliest token; higher is more varied.")]
TopP = Annotated[
    float, typer.Option(min=0.01, max=1, help="Draw from the likeliest tokens that hold this much probability.")
]
Seed = Annotated[int, typer.Option(help="Seeds the draw.")]
System = Annotated[str | None, typer.Option(callback=as_text, help="A system message.")]

LEAVE = {"/exit", "/quit"}


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(generate)
    app.command(rich_help_panel=PANEL)(chat)


def generate(
    prompt: Annotated[str, typer.Argument(callback=as_text, help="What to ask; - reads it from standard input.")],
    to: To = "champion",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = 17,
    system: System = None,
    as_json: Json = False,
) -> int:
    """Ask a model once; one that tells labels apart gives the label of the text."""
    config = enter_project()
    question = as_text(sys.stdin.read()) if prompt == "-" else prompt
    if not question.strip():
        raise typer.BadParameter("The prompt is empty.")
    from flows.inference import Sampling, load_speaker, stream_answer

    speaker = load_speaker(config, to, must_speak=False)
    if speaker.labels is not None:
        return _label(speaker, question, config.render.max_length_tokens, as_json)
    messages = [*_opening(system), {"role": "user", "content": question}]
    pieces = []
    for piece in stream_answer(speaker, messages, Sampling(max_tokens, temperature, top_p, seed)):
        pieces.append(piece)
        if not as_json:
            print(shown(piece), end="", flush=True)
    if as_json:
        print_json({"model": speaker.name, "prompt": question, "answer": "".join(pieces).strip()})
    else:
        print()
    return 0


def chat(
    to: To = "champion",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.9,
    seed: Seed = 17,
    system: System = None,
) -> int:
    """Talk with a model, turn by turn. /new begins again; /exit or Ctrl-D ends."""
    config = enter_project()
    from flows.inference import Sampling, load_speaker, stream_answer

    screen = console()
    with screen.status("loading …"):
        speaker = load_speaker(config, to)
    screen.print(f"[bold]{speaker.name}[/]. /new begins again, /exit ends; Ctrl-C stops an answer.\n")
    messages = _opening(system)
    turn = 0
    while (question := _ask()) is not None:
        if question == "/new":
            messages, turn = _opening(system), 0
            continue
        if not question:
            continue
        pieces: list[str] = []
        try:
            for piece in stream_answer(
                speaker,
                [*messages, {"role": "user", "content": question}],
                Sampling(max_tokens, temperature, top_p, seed + turn),
            ):
                pieces.append(piece)
                print(shown(piece), end="", flush=True)
        except KeyboardInterrupt:
            pass
        print("\n")
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": "".join(pieces).strip()}]
        turn += 1
    return 0


def _label(speaker: Speaker, text: str, max_length_tokens: int, as_json: bool) -> int:
    from flows.inference import label_text

    shares = label_text(speaker, text, max_length_tokens)
    label, share = next(iter(shares.items()))
    if as_json:
        print_json({"model": speaker.name, "prompt": text, "label": label, "probability": share, "labels": shares})
    else:
        print(f"{shown(label)}  {share:.1%}")
    return 0


def _opening(system: str | None) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}] if system else []


def _ask() -> str | None:
    """The user's next line; None where they leave."""
    try:
        question = as_text(input("> ")).strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return None if question in LEAVE else question
