"""The embedded engine: transformers in this process, or in worker processes that it forks.

On a CPU, rows are decoded by as many processes as there are free cores, with one thread each: threads of one operation wait for
each other, processes do not. On a GPU, this process decodes all rows; on several, a process for each does (devices.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from tasks.base.generation import Answer, answer_reader, end_token_ids
from tasks.inference.batches import run_batches
from tasks.inference.decoder import SlotDecoder
from tasks.inference.engine import OnAnswers, ignore_answers
from tasks.inference.norms import quick_norms
from tasks.inference.packed_linear import packed_linears
from tasks.inference.slots import tiles, use_slots
from tasks.inference.support import inner_model, unsupported_reason
from tasks.inference.worker_processes import Decode, decode_rows
from tasks.runtime.threads import Threads

logger = logging.getLogger(__name__)

ROWS_PER_PROCESS = 4
"""Fewer rows are not worth another process."""
CPU_CACHE_BYTES = 2 << 30
"""Keys and values of the rows of one process."""
GPU_CACHE_SHARE = 0.5
"""The share of a GPU's free memory for keys and values."""


class EmbeddedEngine:
    """Generates with a loaded model of transformers.

    Args:
        stage: prefix of the messages.
        rows: rows that a process decodes at once, as far as their keys and values fit into memory.
        processes: None: one per free core at the start of `generate`; a GPU has one.
        threads: those of the stage; set to one while a CPU generates.
        positions: the context of the model, in tokens; None: no limit.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        stage: str,
        rows: int,
        threads: Threads,
        processes: int | None = None,
        positions: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.stage, self.rows = model, tokenizer, stage, rows
        self.threads, self.processes, self.positions = threads, processes, positions

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_answers: OnAnswers = ignore_answers
    ) -> list[Answer]:
        """As Engine.generate. Tokens do not depend on `rows`, the order of the prompts or the number of processes."""
        if not prompts:
            return []
        ends = end_token_ids(self.model, self.tokenizer)
        processes = self._processes(len(prompts))
        if processes > 1:
            logger.info(f"{self.stage}: generates in {processes} processes with one thread each")
        with self._one_thread(), self.decoding(prompts, max_new_tokens, ends) as decode:
            decode_all = partial(decode_rows, decode, processes=processes)
            return answers_of(prompts, self.tokenizer, ends, on_answers, decode_all)

    def generate_tokens(self, prompt: Sequence[int], max_new_tokens: int) -> list[int]:
        """The tokens of the answer of `generate` to one prompt, with its end token."""
        return self.tokens_of([prompt], max_new_tokens)[0]

    def tokens_of(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """The tokens of each answer of `generate`, with its end token."""
        answers: dict[int, list[int]] = {}
        ends, processes = end_token_ids(self.model, self.tokenizer), self._processes(len(prompts))
        with self._one_thread(), self.decoding(prompts, max_new_tokens, ends) as decode:
            decode_rows(decode, longest_first(prompts), processes, answers.__setitem__)
        return [answers[index] for index in range(len(prompts))]

    def _processes(self, rows: int) -> int:
        if self.model.device.type != "cpu":
            return 1
        free = self.processes or self.threads.choose().threads
        return max(1, min(free, -(-rows // ROWS_PER_PROCESS)))

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        if self.model.device.type != "cpu":
            yield
            return
        with self.threads.hold_one():
            yield

    @contextmanager
    def decoding(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, ends: Sequence[int]) -> Iterator[Decode]:
        """How rows of these prompts are decoded with this model."""
        width = max(map(len, prompts)) + max_new_tokens
        rows = self._rows_that_fit(width)
        inner = inner_model(self.model)
        with ExitStack() as stack:
            stack.enter_context(packed_linears(inner))
            stack.enter_context(quick_norms(inner))
            reason = unsupported_reason(self.model, width)
            if reason is None:
                stack.enter_context(use_slots(inner))
                penalty = inner.generation_config.repetition_penalty or 1.0

                def decode(take: Any, emit: Any) -> None:
                    decoder = SlotDecoder(inner, ends, rows, width, self.positions, penalty)
                    decoder.run(prompts, max_new_tokens, take, emit)

                yield decode
                return
            logger.info(f"{self.stage}: generates with padded batches, since {reason}")
            padding = self.tokenizer.pad_token_id
            yield partial(
                run_batches, self.model, prompts, max_new_tokens,
                ends=ends, padding=padding, rows=rows, positions=self.positions,
            )  # fmt: skip

    def _rows_that_fit(self, width: int) -> int:
        inner = inner_model(self.model)
        return max(1, min(self.rows, cache_room(inner) // (bytes_of_token(inner) * tiles(width, 32))))


def bytes_of_token(model: Any) -> int:
    """The size of the keys and values of one token."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head_width * model.dtype.itemsize)


def cache_room(model: Any) -> int:
    """The bytes that keys and values of all rows may take."""
    if model.device.type == "cuda":
        return int(torch.cuda.mem_get_info(model.device)[0] * GPU_CACHE_SHARE)
    return CPU_CACHE_BYTES


def answers_of(
    prompts: Sequence[Sequence[int]],
    tokenizer: Any,
    ends: Sequence[int],
    on_answers: OnAnswers,
    decode_all: Callable[..., None],
) -> list[Answer]:
    """The answers to all prompts, as Engine.generate.

    Args:
        decode_all: decodes the rows of `order`, longest first, and calls `emit` with the index and the tokens of each.
    """
    read, answers = answer_reader(tokenizer), dict[int, Answer]()

    def emit(index: int, tokens: list[int]) -> None:
        answers[index] = Answer(read(tokens), is_cut=set(ends).isdisjoint(tokens))
        on_answers({index: answers[index]})

    decode_all(order=longest_first(prompts), emit=emit)
    return [answers[index] for index in range(len(prompts))]


def longest_first(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The indices of the prompts, in the order in which they are decoded."""
    return sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), tuple(prompts[index]), index))


def describe_embedded() -> dict[str, Any]:
    """Name, version and settings of the engine, as far as they may affect an answer: for metrics.json and the receipt."""
    libraries = {name: version(name) for name in ("transformers", "torch")}
    return {"name": "embedded", "version": libraries, "settings": {"decoding": "greedy"}}
