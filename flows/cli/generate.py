"""generate: the answer to a free prompt, or to rows of a task family as in evaluation."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.chat import Seed, System, Temperature, To, Tools, TopP, read_tools, system_message
from flows.cli.common import Json, as_text, enter_project, print_json
from tasks.runtime.visible_text import printable, printable_json

if TYPE_CHECKING:
    from flows.family_answers import Request
    from flows.inference import Sampling
    from flows.load_model import LoadedModel
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)
FREE_TOKENS = 256


def generate(
    prompt: Annotated[str, typer.Argument(callback=as_text, help="The prompt; - reads it from standard input.")] = "",
    to: To = "champion",
    family: Annotated[
        str, typer.Option(callback=as_text, help="Answer as in evaluation, with the templates of this task family.")
    ] = "",
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT", callback=as_text, help="A field of the row, such as text=…; may be repeated."
        ),
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Many rows: JSON lines of fields, optionally with `template`; - is standard input.",
        ),
    ] = None,
    template: Annotated[
        str | None, typer.Option(metavar="ID", callback=as_text, help="The template. Default: chosen by the fields.")
    ] = None,
    shorten: Annotated[bool, typer.Option("--shorten", help="Shorten rows that are too long, as in training.")] = False,
    think: Annotated[
        bool | None, typer.Option(help="Whether the answer may begin with a thought. Default: as most in training.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum length of the answer, in tokens. Default: 256; of a family, as evaluated."),
    ] = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = 17,
    system: System = None,
    tools: Tools = None,
    as_json: Json = False,
) -> None:
    """Generate an answer; a classifier prints the label of the text.

    With --family, the fields of a row are rendered with the version's own template, and the answer is read as in evaluation: a
    label, entities, triples, JSON, calls or text. Many rows (--input) are printed as JSON lines.
    """
    is_family = _check_usage(prompt, family, [*(field or ()), template, shorten, input_file, think is not None])
    path = input_file if input_file is None or str(input_file) == "-" else input_file.resolve()
    known_tools = read_tools(tools)
    config = enter_project()
    from flows.inference import Sampling

    sampling = Sampling(max_tokens or FREE_TOKENS, temperature, top_p, seed)
    if not is_family:
        _answer_prompt(config, to, prompt, sampling, system, known_tools, as_json)
        return
    from flows.family_answers import Options, answer_requests
    from flows.load_model import load_model

    more: dict[str, Any] = {"tools": known_tools} if known_tools else {}
    more |= {"system": system} if system else {}
    requests = list(_requests(field or [], path, more))
    loaded = load_model(config, to, must_generate=False, may_score=True)
    sampling = Sampling(max_tokens or loaded.max_new_tokens, temperature, top_p, seed)
    answers = answer_requests(loaded, family, requests, Options(template, think, shorten, sampling))
    if path is not None:
        for answer in answers:
            print(printable_json(json.dumps(answer, ensure_ascii=False)))
    elif as_json:
        print_json(answers[0])
    else:
        _print_answer(answers[0])


def _check_usage(prompt: str, family: str, of_family: list[Any]) -> bool:
    """Is it a request of a family?"""
    if not family and any(of_family):
        raise typer.BadParameter("--field, --input, --template, --shorten and --think need --family.")
    if bool(prompt) == bool(family):
        raise typer.BadParameter("Give a prompt, or --family with the fields of a row.")
    return bool(family)


def _requests(fields: list[str], path: Path | None, more: dict[str, Any]) -> Iterator[Request]:
    """The rows of the command line, or of the file, with `more` fields.

    Raises:
        DataError: the file cannot be read, or a line is no JSON object.
    """
    from flows.family_answers import Request
    from tasks.errors import DataError

    pairs = [pair.partition("=") for pair in fields]
    if wrong := [name for name, equals, _ in pairs if not equals or not name]:
        raise typer.BadParameter(f"--field {wrong[0]}: write NAME=TEXT.")
    given = {name: text for name, _, text in pairs}
    if len(given) < len(pairs):
        raise typer.BadParameter("A --field is given twice.")
    if path is None:
        yield Request(more | given)
        return
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"not JSON ({error})", where=where, fix="A line is an object with the fields of a row"
            ) from error
        if not isinstance(row, dict):
            raise DataError("not a JSON object", where=where, fix="A line is an object with the fields of a row")
        template = row.pop("template", None)
        yield Request({**more, **given, **row}, None if template is None else str(template), where)


def _lines(path: Path) -> list[str]:
    from tasks.errors import DataError

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path), fix="Fix --input") from error
    return [line for line in text.split("\n") if line.strip()]


def _answer_prompt(
    config: PipelineConfig,
    to: str,
    prompt: str,
    sampling: Sampling,
    system: str | None,
    tools: list[dict[str, Any]],
    as_json: bool,
) -> None:
    from flows.inference import stream_answer
    from flows.load_model import load_model

    prompt_text = as_text(sys.stdin.read()) if prompt == "-" else prompt
    if not prompt_text.strip():
        raise typer.BadParameter("The prompt is empty.")
    loaded = load_model(config, to, must_generate=False)
    if loaded.labels is not None:
        _label(loaded, prompt_text, config.render.max_length_tokens, as_json)
        return
    messages = [*system_message(system), {"role": "user", "content": prompt_text}]
    pieces = stream_answer(loaded, messages, sampling, tools)
    if as_json:
        print_json({"model": loaded.name, "prompt": prompt_text, "answer": "".join(pieces).strip()})
        return
    for piece in pieces:
        print(printable(piece), end="", flush=True)
    print()


def _label(loaded: LoadedModel, text: str, max_length_tokens: int, as_json: bool) -> None:
    from flows.inference import label_text

    probabilities = label_text(loaded, text, max_length_tokens)
    label, probability = next(iter(probabilities.items()))
    if as_json:
        facts = {"label": label, "probability": probability, "labels": probabilities}
        print_json({"model": loaded.name, "prompt": text} | facts)
    else:
        print(f"{printable(label)}  {probability:.1%}")


def _print_answer(answer: dict[str, Any]) -> None:
    """Prints what evaluation would read; an answer that cannot be parsed as it is, with a warning."""
    if "reward" in answer:
        print(f"{answer['reward']:.4f}")
    elif "label" in answer:
        print(f"{printable(answer['label'])}  {answer['probability']:.1%}")
    elif answer["is_unparsed"]:
        logger.warning(f"generate: warning: the answer is not in the form of {answer['kind']}; evaluation scores it 0")
        print(printable(answer["answer"]))
    else:
        value = answer["value"]
        print(printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
