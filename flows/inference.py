"""Answers of a loaded model on this machine, in pieces while they are generated. For `strop generate` and `chat`.

A free prompt is rendered with the chat template saved with the model's tokenizer, without a task template; the fields of a family
with the version's own templates (family_answers.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flows.load_model import LoadedModel
from tasks.errors import RegistryError

Message = dict[str, Any]


@dataclass(frozen=True)
class Sampling:
    max_tokens: int
    temperature: float
    """0: greedy decoding."""
    top_p: float
    seed: int


def label_text(loaded: LoadedModel, text: str, max_length_tokens: int) -> dict[str, float]:
    """Label → its probability, the most probable first. A longer text is truncated."""
    import torch

    from tasks.base.heads import head_logits, text_ids

    assert loaded.labels is not None
    ((ids, _),) = text_ids(loaded.tokenizer, [text.strip()], max_length_tokens)
    probabilities = torch.tensor(head_logits(loaded.model, [ids], 1)[0]).softmax(0).tolist()
    return dict(sorted(zip(loaded.labels, probabilities, strict=True), key=lambda pair: -pair[1]))


def stream_answer(
    loaded: LoadedModel, messages: list[Message], sampling: Sampling, tools: Sequence[dict[str, Any]] = ()
) -> Iterator[str]:
    """Yields the answer in pieces while it is generated.

    Args:
        tools: in OpenAI's form.

    Raises:
        RegistryError: the conversation fills the model's context.
    """
    import torch
    from transformers import TextIteratorStreamer

    from tasks.prompts.chat_prompts import Prompts

    ids = Prompts(loaded.tokenizer, loaded.thinks).of_chat(messages, tools)
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
