"""Local inference with the champion, the challenger, the base, or a version. For `strop generate` and `chat`.

The prompt is rendered with the chat template saved with the model's tokenizer, without a task template.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.config import PipelineConfig
from tasks.errors import RegistryError
from tasks.model_store.ledger import Entry, champion_of, judgement_of, read_ledger

Message = dict[str, str]


@dataclass(frozen=True)
class Sampling:
    max_tokens: int
    temperature: float
    """0: greedy decoding."""
    top_p: float
    seed: int


@dataclass(frozen=True)
class LoadedModel:
    name: str
    """Such as `champion, version 2`."""
    model: Any
    tokenizer: Any
    labels: tuple[str, ...] | None = None
    """Its labels, if it is a classifier."""
    thinks: bool = False
    """Whether it was trained on answers with thinking."""


def choose_version(entries: list[Entry], to: str) -> Entry | None:
    """The entry of the version given by `to`; None for the base.

    Raises:
        RegistryError: there is no such version.
    """
    if to == "base":
        return None
    newest = next((entry for entry in reversed(entries) if entry.kind == "judged"), None)
    entry = {"champion": champion_of(entries), "challenger": newest}.get(to)
    if entry is None and to.removeprefix("v").isdecimal():
        entry = judgement_of(entries, int(to.removeprefix("v")))
    if entry is None:
        versions = ", ".join(str(entry.version) for entry in entries if entry.kind == "judged") or "none yet"
        fix = f"Use champion, challenger, base or a version ({versions})"
        raise RegistryError("no such model", where=f"--to {to}", fix=fix)
    return entry


def load_model(config: PipelineConfig, to: str, must_generate: bool = True) -> LoadedModel:
    """Loads the model; fetches its weights by its tag if they are not on this disk.

    Args:
        must_generate: False also accepts a classifier.

    Raises:
        RegistryError: there is no such version, or it cannot generate text.
        SigningError: `signing.require` names `serving`, and a signature of the version is missing or invalid.
    """
    from tasks.base.convert import base_folder
    from tasks.base.heads import REWARD
    from tasks.base.load import labels_of, load_base, load_tokenizer, load_trained
    from tasks.base.pin import pin_base
    from tasks.base.precision import best_precision
    from tasks.dataset.rendered import thinks_by_training
    from tasks.model_store.signatures import require_servable
    from tasks.model_store.versions import weights_folder
    from tasks.runtime.logs.libraries import set_library_level
    from tasks.runtime.threads import Threads

    set_library_level("transformers")
    model_name = config.register_.model_name
    entry = choose_version(read_ledger(model_name), to)
    if entry is not None:
        require_servable(config, entry.version)
    record = pin_base(config.base)
    precision, threads = best_precision(), Threads("generate", is_quiet=True)
    if entry is None:
        if config.finetune.spec.head == "labels":
            fix = "Use a version: --to NUMBER"
            raise RegistryError("the base has no classification head yet", where=f"--to {to}", fix=fix)
        folder = base_folder(record)
        model = load_base(record, precision)
        threads.follow(model)
        return LoadedModel("base", model, load_tokenizer(folder, config.base.chat_template))
    folder = weights_folder(model_name, entry.version, entry.weights_digest)
    name = f"{to}, version {entry.version}" if to in ("champion", "challenger") else f"version {entry.version}"
    labels = labels_of(folder)
    if labels == REWARD:
        fix = "Use another version: strop history"
        raise RegistryError(f"{name} is a reward model: it does not generate text", where=f"--to {to}", fix=fix)
    if labels is not None and must_generate:
        what = f"{name} is a classifier ({', '.join(labels)}): it does not generate text"
        raise RegistryError(what, where=f"--to {to}", fix='Classify a text: strop generate "…"')
    tokenizer = load_tokenizer(folder, generates=labels is None)
    model = load_trained(folder, record, precision)
    threads.follow(model)
    return LoadedModel(name, model, tokenizer, labels, thinks_by_training(folder))


def label_text(loaded: LoadedModel, text: str, max_length_tokens: int) -> dict[str, float]:
    """Label → its probability, the most probable first. A longer text is truncated."""
    import torch

    from tasks.base.heads import head_logits, text_ids

    assert loaded.labels is not None
    ((ids, _),) = text_ids(loaded.tokenizer, [text.strip()], max_length_tokens)
    probabilities = torch.tensor(head_logits(loaded.model, [ids], 1)[0]).softmax(0).tolist()
    return dict(sorted(zip(loaded.labels, probabilities, strict=True), key=lambda pair: -pair[1]))


def stream_answer(loaded: LoadedModel, messages: list[Message], sampling: Sampling) -> Iterator[str]:
    """Yields the answer in pieces while it is generated.

    Raises:
        RegistryError: the conversation fills the model's context.
    """
    import torch
    from transformers import TextIteratorStreamer

    from tasks.prompts.chat_prompts import Prompts

    ids = Prompts(loaded.tokenizer, loaded.thinks).of_chat(messages)
    free_tokens = _tokens_for_answer(loaded, len(ids))
    streamer = TextIteratorStreamer(loaded.tokenizer, skip_prompt=True, skip_special_tokens=True)
    inputs = torch.tensor([ids], device=loaded.model.device)
    stop = threading.Event()
    errors: list[Exception] = []

    def generate() -> None:
        try:
            _generate(loaded, inputs, sampling, min(sampling.max_tokens, free_tokens), streamer, stop)
        except Exception as error:  # handed on to the reader  # noqa: BLE001
            errors.append(error)
            streamer.end()

    thread = threading.Thread(target=generate, daemon=True)
    thread.start()
    try:
        yield from streamer
    finally:
        stop.set()  # Ctrl-C stops the generation, not only its output
        thread.join()
    if errors:
        raise errors[0]


def _tokens_for_answer(loaded: LoadedModel, prompt_tokens: int) -> int:
    longest = getattr(loaded.model.config, "max_position_embeddings", None) or 1 << 30
    if prompt_tokens >= longest:
        what = f"the conversation has {prompt_tokens:,} tokens, the model's context {longest:,}"
        raise RegistryError(what, fix="Start a new conversation, or shorten the prompt")
    return int(longest - prompt_tokens)


def _generate(
    loaded: LoadedModel, inputs: Any, sampling: Sampling, max_new_tokens: int, streamer: Any, stop: threading.Event
) -> None:
    import torch
    from transformers import StoppingCriteriaList

    from tasks.base.generation import end_token_ids

    sampled = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    torch.manual_seed(sampling.seed)
    with torch.inference_mode():
        loaded.model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList(
                [lambda ids, *_, **__: torch.full((len(ids),), stop.is_set(), device=ids.device)]
            ),
            pad_token_id=loaded.tokenizer.pad_token_id,
            eos_token_id=end_token_ids(loaded.model, loaded.tokenizer),
            **(sampled if sampling.temperature > 0 else greedy),
        )
