"""The server that generates the answers of one model (`evaluate.engine`), in place of the embedded engine.

A server that a command starts gets a folder with exactly these weights: an adapter is merged into its base. A server behind a URL
is compared with the weights by some answers, which shows another model, and does not prove this one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.generation import Answer, end_token_ids
from tasks.errors import ConfigError, SourceError
from tasks.inference.embedded import describe_embedded
from tasks.inference.engine import OnAnswers, ignore_answers
from tasks.inference.served import served_models, server_version
from tasks.inference.server import Decoding, ServerEngine
from tasks.inference.server_process import ServerProcess, started_server
from tasks.inference.settings import ServerSettings
from tasks.inference.support import inner_model, score_setting
from tasks.runtime.redaction.arguments import without_secrets
from tasks.runtime.redaction.known import redact_values
from tasks.runtime.redaction.text import redact

WHERE = "evaluate.engine"
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
PROBES = 8
"""Answers that are compared with those of the embedded engine."""
LEAST_EQUAL = 0.5
"""The least share of them that is equal: near ties go either way on another device, one model's answers are not another's."""
SECONDS_TO_END = 2.0
"""Time for a process whose connection was lost to end."""
FACTS = ("version", "is_verified", "agreement")
UNVERIFIED_FIX = "Serve the weights of this role there, or let Strop start the server: evaluate.engine.command"


@dataclass
class ServedModel:
    role: str
    engine: ServerEngine
    process: ServerProcess | None
    """None: it was not started by Strop."""
    stack: ExitStack
    facts: dict[str, Any]
    """What metrics.json says about it: `version`, `is_verified`, and, after `compare`, `agreement`."""

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_answers: OnAnswers) -> list[Answer]:
        """As Engine.generate.

        Raises:
            SourceError: as ServerEngine.generate, or its process has ended.
        """
        try:
            return self.engine.generate(prompts, max_new_tokens, on_answers)
        except SourceError as error:
            if self.process is None or (fault := self.process.fault(SECONDS_TO_END)) is None:
                raise
            fix = "Run again: finished answers are kept"
            raise SourceError(fault, where=f"{WHERE}.command, the {self.role}", fix=fix) from error

    def compare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, expected: Sequence[Answer]) -> None:
        """Compares its answers with those of the embedded engine.

        Raises:
            SourceError: too many differ.
        """
        answers = self.generate(prompts, max_new_tokens, ignore_answers)
        equal = sum(mine == theirs for mine, theirs in zip(expected, answers, strict=True))
        if equal < LEAST_EQUAL * len(expected):
            what = f"only {equal} of {len(expected)} answers of the server are those of the {self.role}: it serves another model"
            raise SourceError(what, where=self.engine.base_url, fix=UNVERIFIED_FIX)
        self.facts |= {"agreement": {"rows": len(expected), "equal": equal}}

    @property
    def positions(self) -> int | None:
        return self.engine.positions

    def close(self) -> None:
        self.stack.close()


def decoding_of(model: Any, tokenizer: Any, role: str) -> Decoding:
    """How a server must decode as the embedded engine does.

    Raises:
        ConfigError: the model cannot be served: it has a learned prompt, or a generation config that a request cannot express.
    """
    inner = inner_model(model)
    reason = f"its generation config sets {setting}" if (setting := score_setting(inner)) else None
    if inner is not model and model.active_peft_config.is_prompt_learning:
        reason = "it has a learned prompt, which cannot be merged into weights"
    if reason is not None:
        what = f"the {role} cannot be served: {reason}"
        raise ConfigError(what, where=WHERE, fix="Remove evaluate.engine: the embedded engine generates its answers")
    return Decoding(tuple(end_token_ids(inner, tokenizer)), inner.generation_config.repetition_penalty or 1.0)


def write_model(model: Any, tokenizer: Any, decoding: Decoding, folder: Path) -> None:
    """Writes the weights, an adapter merged into them, and the tokenizer. The model may be changed."""
    from transformers import GenerationConfig

    merged = model.merge_and_unload() if inner_model(model) is not model else model
    # a server reads its defaults from it; sampling settings beside a greedy request would be refused
    penalty = {} if decoding.repetition_penalty == 1.0 else {"repetition_penalty": decoding.repetition_penalty}
    merged.generation_config = GenerationConfig(eos_token_id=list(decoding.ends), **penalty)
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def serve(
    role: str,
    settings: ServerSettings,
    tokenizer: Any,
    precision: str,
    decoding: Decoding,
    positions: int | None,
    write: Callable[[Path], None],
) -> ServedModel:
    """The server of a model.

    Args:
        write: writes the model into a folder, and frees its memory.

    Raises:
        ConfigError: a command fails; a role has no URL, or its server no such model.
        SourceError: the server does not answer.
    """
    stack, process = ExitStack(), None
    if settings.urls is None:
        folder = paths.SERVED / role
        stack.callback(shutil.rmtree, paths.SERVED, ignore_errors=True)
        shutil.rmtree(paths.SERVED, ignore_errors=True)  # of a run that was killed
        folder.mkdir(parents=True)
        try:
            write(folder / "model")
            log = folder / "server.log"
            process = stack.enter_context(started_server(settings, folder / "model", DTYPES[precision], log))
            base_url = process.base_url
            name = (served_models(base_url, settings.api_key_env) or [""])[0]
        except BaseException:
            stack.close()
            raise
    else:
        base_url, name = _named(role, settings)
    engine = ServerEngine(settings, base_url, name, tokenizer, decoding, positions)
    facts = {"version": server_version(base_url, settings.api_key_env), "is_verified": process is not None}
    return ServedModel(role, engine, process, stack, facts)


def _named(role: str, settings: ServerSettings) -> tuple[str, str]:
    """URL and model of a role whose server runs already."""
    served = (settings.urls or {}).get(role)  # type: ignore[call-overload]
    if served is None:
        raise ConfigError(
            f"has no server of the {role}", where=f"{WHERE}.urls", fix=f"Add `{role}: {{base_url, model}}`"
        )
    names = served_models(served.base_url, settings.api_key_env)
    if names is None:
        raise SourceError("does not list its models", where=f"{served.base_url}/models", fix="Start the server")
    if served.model not in names:
        what = f"serves no model `{served.model}`, but {', '.join(names) or 'none'}"
        raise ConfigError(what, where=served.base_url, fix=f"Correct {WHERE}.urls.{role}.model")
    return served.base_url, served.model


def engine_key(role: str, settings: ServerSettings | None) -> list[Any]:
    """What of the engine's settings decides the answers of a role; empty for the embedded engine."""
    if settings is None:
        return []
    if settings.urls is None:
        return ["command", settings.command]
    served = settings.urls.get(role)  # type: ignore[call-overload]
    return ["url", served and served.model_dump()]


def describe_inference(settings: ServerSettings | None, facts: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    """The entry `inference` of metrics.json.

    Args:
        facts: role → those of its server; None: the embedded engine or no engine generated its answers.
    """
    by_server = {role: each for role, each in facts.items() if each is not None}
    if settings is None or not by_server:
        return describe_embedded()
    chosen = redact_values(settings.model_dump(mode="json", include={"command"} if settings.urls is None else {"urls"}))
    if settings.command is not None:
        chosen["command"] = [redact(argument) for argument in without_secrets(chosen["command"])]
    of_all = {name: {role: each.get(name) for role, each in by_server.items()} for name in FACTS}
    return {"name": "server", **of_all, "settings": {"decoding": "greedy", **chosen}}


def read_facts(path: Path) -> dict[str, Any] | None:
    """The facts of the server that generated cached answers; None if they are not known."""
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        return facts if isinstance(facts, dict) and "version" in facts else None
    except (OSError, ValueError):
        return None
