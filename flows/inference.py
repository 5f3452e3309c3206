"""Asks a model on this machine: the champion, the challenger, the base, or a version. For `strop generate` and `chat`.

The prompt goes through the chat template saved with the model's tokenizer, and through no task template.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.config import PipelineConfig
from tasks.errors import RegistryError
from tasks.model_store.ledger import Entry, champion_of, judged, read_ledger

Message = dict[str, str]


@dataclass(frozen=True)
class Sampling:
    max_tokens: int
    temperature: float
    """0 takes the likeliest token each time."""
    top_p: float
    seed: int


@dataclass(frozen=True)
class Speaker:
    name: str
    """Such as `champion, version 2`."""
    model: Any
    tokenizer: Any
    labels: tuple[str, ...] | None = None
    """What it tells apart, if it does not speak."""
    thinks: bool = False
    """Was it trained on answers that think?"""


def choose_version(entries: list[Entry], to: str) -> Entry | None:
    """The entry of the version that `to` names; None for the base.

    Raises:
        RegistryError: there is no such version.
    """
    if to == "base":
        return None
    newest = next((entry for entry in reversed(entries) if entry.kind == "judged"), None)
    found = {"champion": champion_of(entries), "challenger": newest}.get(to)
    if found is None and to.removeprefix("v").isdecimal():
        found = judged(entries, int(to.removeprefix("v")))
    if found is None:
        versions = ", ".join(str(entry.version) for entry in entries if entry.kind == "judged") or "none yet"
        fix = f"Say champion, challenger, base or a version ({versions})"
        raise RegistryError("no such model", where=f"--to {to}", fix=fix)
    return found


def load_speaker(config: PipelineConfig, to: str, must_speak: bool = True) -> Speaker:
    """Loads the model, its weights fetched by its tag if they are not on this disk.

    Args:
        must_speak: False where one is welcome, too, that only tells labels apart.

    Raises:
        RegistryError: there is no such version, or it does not speak.
    """
    from transformers.utils import logging

    from tasks.base.convert import base_folder
    from tasks.base.heads import REWARD
    from tasks.base.load import labels_of, load_base, load_tokenizer, load_trained
    from tasks.base.pin import pin_base
    from tasks.base.precision import best_precision
    from tasks.dataset.rendered import thinks_by_training
    from tasks.model_store.versions import weights_folder
    from tasks.runtime.threads import Threads

    logging.set_verbosity_error()
    model_name = config.register_.model_name
    entry = choose_version(read_ledger(model_name), to)
    record = pin_base(config.base)
    precision, threads = best_precision(), Threads("generate", is_quiet=True)
    if entry is None:
        if config.finetune.objective == "classify":
            raise RegistryError(
                "the base has no head of labels yet", where=f"--to {to}", fix="Ask a version: --to NUMBER"
            )
        folder = base_folder(record)
        model = load_base(record, precision)
        threads.follow(model)
        return Speaker("base", model, load_tokenizer(folder, config.base.chat_template))
    folder = weights_folder(model_name, entry.version, entry.weights_digest)
    told = f"{to}, version {entry.version}" if to in ("champion", "challenger") else f"version {entry.version}"
    labels = labels_of(folder)
    if labels == REWARD:
        fix = "Ask another version: strop history"
        raise RegistryError(f"{told} is a reward model: it scores answers, and gives none", where=f"--to {to}", fix=fix)
    if labels is not None and must_speak:
        what = f"{told} does not speak: it tells {', '.join(labels)} apart"
        raise RegistryError(what, where=f"--to {to}", fix='Ask it for the label of a text: strop generate "…"')
    tokenizer = load_tokenizer(folder, generates=labels is None)
    model = load_trained(folder, record, precision)
    threads.follow(model)
    return Speaker(told, model, tokenizer, labels, thinks_by_training(folder))


def label_text(speaker: Speaker, text: str, max_length_tokens: int) -> dict[str, float]:
    """Label → its probability, the likeliest first. A text that is longer is read up to there."""
    import torch

    from tasks.base.heads import head_logits, text_ids

    assert speaker.labels is not None
    ((ids, _),) = text_ids(speaker.tokenizer, [text.strip()], max_length_tokens)
    shares = torch.tensor(head_logits(speaker.model, [ids], 1)[0]).softmax(0).tolist()
    return dict(sorted(zip(speaker.labels, shares, strict=True), key=lambda pair: -pair[1]))


def stream_answer(speaker: Speaker, messages: list[Message], sampling: Sampling) -> Iterator[str]:
    """The answer, piece by piece as it is generated.

    Raises:
        RegistryError: the conversation leaves no room for an answer.
    """
    import torch
    from transformers import TextIteratorStreamer

    ids = _prompt_ids(speaker, messages)
    room = _room_for_answer(speaker, len(ids))
    streamer = TextIteratorStreamer(speaker.tokenizer, skip_prompt=True, skip_special_tokens=True)
    inputs = torch.tensor([ids], device=speaker.model.device)
    stop = threading.Event()
    errors: list[Exception] = []

    def generate() -> None:
        try:
            _generate(speaker, inputs, sampling, min(sampling.max_tokens, room), streamer, stop)
        except Exception as error:  # handed on to the reader  # noqa: BLE001
            errors.append(error)
            streamer.end()

    thread = threading.Thread(target=generate, daemon=True)
    thread.start()
    try:
        yield from streamer
    finally:
        stop.set()  # Ctrl-C ends the answer, not only its display
        thread.join()
    if errors:
        raise errors[0]


def _prompt_ids(speaker: Speaker, messages: list[Message]) -> list[int]:
    from tasks.base.prompts import Prompts

    return Prompts(speaker.tokenizer, speaker.thinks).of_chat(messages)


def _room_for_answer(speaker: Speaker, prompt_tokens: int) -> int:
    longest = getattr(speaker.model.config, "max_position_embeddings", None) or 1 << 30
    if prompt_tokens >= longest:
        raise RegistryError(
            f"the conversation has {prompt_tokens:,} tokens, the model reads {longest:,}",
            fix="Begin anew, or ask shorter",
        )
    return int(longest - prompt_tokens)


def _generate(
    speaker: Speaker, inputs: Any, sampling: Sampling, max_new_tokens: int, streamer: Any, stop: threading.Event
) -> None:
    import torch
    from transformers import StoppingCriteriaList

    from tasks.base.generation import end_token_ids

    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    torch.manual_seed(sampling.seed)
    with torch.inference_mode():
        speaker.model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList(
                [lambda ids, *_, **__: torch.full((len(ids),), stop.is_set(), device=ids.device)]
            ),
            pad_token_id=speaker.tokenizer.pad_token_id,
            eos_token_id=end_token_ids(speaker.model, speaker.tokenizer),
            **(drawn if sampling.temperature > 0 else greedy),
        )
