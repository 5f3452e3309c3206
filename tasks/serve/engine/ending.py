"""The last events of an answer: its last piece, and how it ended and is read. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.scoring.read_answer import AnswerReader, ReadAnswer
from tasks.serve.engine.request import Delta, Event, Finished, FinishReason, TokenLogprob
from tasks.serve.engine.text_stream import TextStream


def ending(
    index: int,
    stream: TextStream,
    sent: int,
    reader: AnswerReader,
    reason: FinishReason,
    *,
    is_task: bool,
    tokens: int,
    logprobs: Sequence[TokenLogprob],
) -> Iterator[Event]:
    """The events after the last token of a choice.

    Args:
        stream: finished.
        sent: the number of characters that were passed on in pieces.
        is_task: the value that evaluation would read is reported.
        tokens: of the answer.
        logprobs: those of tokens whose text was held back.
    """
    text = stream.sent
    read = reader.read(text) if is_task or reader.may_call else None
    calls = calls_of(read) if read is not None and reader.may_call else ()
    kept = _of_text(logprobs, len(text) - sent) if stream.is_stopped else tuple(logprobs)
    piece = "" if calls else text[sent:]
    if piece or kept:
        yield Delta(index, piece, kept)
    value = (read.as_json, read.is_unparsed) if read is not None and is_task else (None, False)
    ended: FinishReason = "stop" if stream.is_stopped else reason
    if calls and ended == "stop":
        ended = "tool_calls"
    yield Finished(index, ended, text, tokens, calls, *value)


def _of_text(logprobs: Sequence[TokenLogprob], characters: int) -> tuple[TokenLogprob, ...]:
    """Those of the first characters: tokens of a stop string, which is not part of the answer, are left out."""
    kept: list[TokenLogprob] = []
    while len(kept) < len(logprobs) and sum(len(each.text) for each in kept) < characters:
        kept.append(logprobs[len(kept)])
    return tuple(kept)


def calls_of(read: ReadAnswer) -> tuple[dict[str, Any], ...]:
    """Calls with their arguments as JSON text; () for any other answer."""
    if read.kind != "tool_calls" or read.is_unparsed:
        return ()
    calls = ((call["name"], call.get("arguments", {})) for call in read.as_json or ())
    return tuple(
        {"name": name, "arguments": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
        for name, value in calls
    )
