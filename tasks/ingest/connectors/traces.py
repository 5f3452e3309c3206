"""MLflow traces that people judged: the answers that they found good, or wrote better, become dialogues to learn from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tasks.errors import RegistryError, SourceError
from tasks.ingest.connectors.corrections import TRACE
from tasks.ingest.connectors.listing import Listing, Seen
from tasks.ingest.readers.lines import RawRecord
from tasks.ingest.secrets import filled_in
from tasks.ingest.settings import Source
from tasks.runtime.files import content_digest

_ASKED = ("messages", "question", "prompt", "query", "input", "text", "instruction")
_ANSWERED = ("content", "answer", "response", "output", "text", "completion")


def list_traces(source: Source) -> Listing:
    """The experiment as one item, stamped with what people said of its traces.

    Raises:
        SourceError: MLflow cannot be reached, or has no such experiment.
    """
    listing, said = Listing(), []
    for trace in _judged(source, with_content=False):
        if _is_taken(trace, source):
            said.append([trace["trace_id"], trace["changed"]])
        else:
            listing.withdrawn.add(trace["trace_id"])
    listing.found[f"{source.name}: {source.experiment}"] = Seen(0, 0, stamp=content_digest(said))
    return listing


def require_traces(source: Source) -> None:
    """Checks that MLflow has the experiment.

    Raises:
        SourceError: MLflow cannot be reached, or has no such experiment.
    """
    from tasks.tracking.traces import require_experiment

    assert source.tracking_uri is not None
    assert source.experiment is not None
    with _source_errors(source):
        require_experiment(filled_in(source.tracking_uri, source.name), source.experiment)


def read_traces(source: Source) -> Iterator[RawRecord]:
    """Records {"messages", "trace_id"}, ending in the answer to learn; a trace of no known form keeps what it held.

    Raises:
        SourceError: MLflow cannot be reached, or has no such experiment.
    """
    taken = (trace for trace in _judged(source, with_content=True) if _is_taken(trace, source))
    for number, trace in enumerate(taken, start=1):
        request, response = _parsed(trace["request"]), _parsed(trace["response"])
        edited = trace["values"].get(source.answer) if source.answer else None
        answer = _text_of(edited if edited is not None else response)
        asked = _messages_of(request)
        record: dict[str, Any] = {TRACE: trace["trace_id"]}
        if asked is None or answer is None:
            record |= {"request": request, "response": response if edited is None else edited}
        else:
            record["messages"] = [*asked, {"role": "assistant", "content": answer}]
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


def _is_taken(trace: dict[str, Any], source: Source) -> bool:
    if source.answer is not None and trace["values"].get(source.answer) is not None:
        return True
    return source.rating is not None and _is_good(trace["values"].get(source.rating), source.rating_min)


def _is_good(rating: Any, least: float | None) -> bool:
    """Does the rating say that the answer was good?"""
    if least is None:
        return rating is True or str(rating).strip().lower() in ("true", "yes", "good", "thumbs_up", "1")
    try:
        return float(rating) >= least
    except (TypeError, ValueError):
        return False


def _messages_of(request: Any) -> list[Any] | None:
    """What was asked, as turns; None where the request has a form that we do not know."""
    if isinstance(request, str):
        return [{"role": "user", "content": request}]
    if isinstance(request, list) and request and all(isinstance(turn, dict) and "role" in turn for turn in request):
        return request
    if isinstance(request, dict):
        for name in _ASKED:
            if request.get(name) and (found := _messages_of(request[name])) is not None:
                return found
        if len(request) == 1:
            return _messages_of(next(iter(request.values())))
    return None


def _text_of(answer: Any) -> str | None:
    """The answer's text, whether it stands alone, in a message, or in OpenAI's choices."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list) and answer:
        return _text_of(answer[-1])
    if isinstance(answer, dict):
        for name in ("choices", "message", "messages", *_ANSWERED):
            if answer.get(name) and (found := _text_of(answer[name])) is not None:
                return found
    return None


def _parsed(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
