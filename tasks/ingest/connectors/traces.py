"""MLflow traces with human feedback: dialogues whose answer was rated as good, or edited."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from tasks.errors import RegistryError, SourceError
from tasks.ingest.connectors.connector import Connector, OpenItem
from tasks.ingest.connectors.corrections import TRACE
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.secrets import filled_in
from tasks.ingest.settings import Source
from tasks.runtime.files import content_digest

_REQUEST_KEYS = ("messages", "question", "prompt", "query", "input", "text", "instruction")
_RESPONSE_KEYS = ("content", "answer", "response", "output", "text", "completion")


class Traces(Connector):
    """The experiment is the only item; its stamp is the digest of the feedback."""

    uses_mlflow = True
    record_key = TRACE

    def list_items(self) -> Listing:
        source = self.source
        listing, judgements = Listing(), []
        for trace in _judged(source, with_content=False):
            if _is_selected(trace, source):
                judgements.append([trace["trace_id"], trace["changed"]])
            else:
                listing.withdrawn.add(trace["trace_id"])
        listing.items[f"{source.name}: {source.experiment}"] = ItemState(stamp=content_digest(judgements))
        return listing

    def require(self) -> None:
        source = self.source
        from tasks.tracking.traces import require_experiment

        assert source.tracking_uri is not None
        assert source.experiment is not None
        with _source_errors(source):
            require_experiment(filled_in(source.tracking_uri, source.name), source.experiment)

    def open_item(self, name: str, before: ItemState | None) -> AbstractContextManager[OpenItem]:
        return self.open_records(read_traces(self.source), is_whole=False)


def read_traces(source: Source) -> Iterator[RawRecord]:
    """Records {"messages", "trace_id"} that end in the target; a trace in an unknown form keeps its request and response.

    Raises:
        SourceError: MLflow cannot be reached, or has no such experiment.
    """
    selected = (trace for trace in _judged(source, with_content=True) if _is_selected(trace, source))
    for number, trace in enumerate(selected, start=1):
        request, response = _parsed(trace["request"]), _parsed(trace["response"])
        edited = trace["values"].get(source.answer) if source.answer else None
        answer = _text_of(edited if edited is not None else response)
        messages = _messages_of(request)
        record: dict[str, Any] = {TRACE: trace["trace_id"]}
        if messages is None or answer is None:
            record |= {"request": request, "response": response if edited is None else edited}
        else:
            record["messages"] = [*messages, {"role": "assistant", "content": answer}]
        yield RawRecord(number, record)


def _judged(source: Source, with_content: bool) -> Iterator[dict[str, Any]]:
    from tasks.tracking.traces import judged_traces

    assert source.tracking_uri is not None
    assert source.experiment is not None
    with _source_errors(source):
        yield from judged_traces(filled_in(source.tracking_uri, source.name), source.experiment, with_content)


@contextlib.contextmanager
def _source_errors(source: Source) -> Iterator[None]:
    try:
        yield
    except RegistryError as error:
        raise SourceError(error.what, where=f"source `{source.name}`, {error.where}", fix=error.fix) from error


def _is_selected(trace: dict[str, Any], source: Source) -> bool:
    if source.answer is not None and trace["values"].get(source.answer) is not None:
        return True
    return source.rating is not None and _is_good(trace["values"].get(source.rating), source.rating_min)


def _is_good(rating: Any, lowest: float | None) -> bool:
    """Whether the rating is that of a good answer."""
    if lowest is None:
        return rating is True or str(rating).strip().lower() in ("true", "yes", "good", "thumbs_up", "1")
    try:
        return float(rating) >= lowest
    except (TypeError, ValueError):
        return False


def _messages_of(request: Any) -> list[Any] | None:
    """The request as turns; None if its form is unknown."""
    if isinstance(request, str):
        return [{"role": "user", "content": request}]
    if isinstance(request, list) and request and all(isinstance(turn, dict) and "role" in turn for turn in request):
        return request
    if isinstance(request, dict):
        for name in _REQUEST_KEYS:
            if request.get(name) and (messages := _messages_of(request[name])) is not None:
                return messages
        if len(request) == 1:
            return _messages_of(next(iter(request.values())))
    return None


def _text_of(answer: Any) -> str | None:
    """The answer's text: the answer itself, or in a message or OpenAI's choices."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list) and answer:
        return _text_of(answer[-1])
    if isinstance(answer, dict):
        for name in ("choices", "message", "messages", *_RESPONSE_KEYS):
            if answer.get(name) and (text := _text_of(answer[name])) is not None:
                return text
    return None


def _parsed(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
