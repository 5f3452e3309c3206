"""Delivers the records of all gateways: responses as traces, feedback as assessments, answers worth a look to the review queue.

    delivery = Delivery(paths.SPOOL, traces, settings.review)
    while delivery.step():
        ...

A position moves when what is before it is delivered, so an interrupted delivery loses nothing; what it repeats is stored once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from tasks.feedback.erased import ErasedIds
from tasks.feedback.lines import Line, read_lines
from tasks.feedback.records import FEEDBACK, RESPONSE, Answer, Feedback, ServedResponse
from tasks.feedback.spool import delivery_lock, segments
from tasks.feedback.traces import trace_of
from tasks.runtime.plurals import count_of
from tasks.serve.deliver.positions import Position, Positions, read_positions, write_positions
from tasks.serve.deliver.settings import ReviewSettings
from tasks.serve.deliver.worth_review import DIFFERS, differ, review_reasons
from tasks.tracking.review_queues import add_to_queue, open_queue
from tasks.tracking.served_traces import ServedTraces

logger = logging.getLogger(__name__)

MOST_RECORDS, MOST_BYTES = 100, 4_000_000
"""Of a segment, in a step."""
RECENT = 2000
"""Answers that are compared with shadow answers to come."""


def has_new_records(spool: Path) -> bool:
    """Whether there may be something to deliver; MLflow is not needed to know."""
    positions = read_positions(spool)
    for path in segments(spool):
        known = positions.segments.get(path.relative_to(spool).as_posix())
        if known is None:
            return True
        if not known.is_complete and path.exists() and path.stat().st_size > min(known.responses, known.feedback):
            return True
    return False


@dataclass
class Delivery:
    spool: Path
    traces: ServedTraces
    review: ReviewSettings

    def __post_init__(self) -> None:
        self._lock = delivery_lock(self.spool)
        self._erased = ErasedIds(self.spool)
        self._destination = self.traces.destination
        self._recent: OrderedDict[str, Answer] = OrderedDict()
        self._queue: str | None = None
        self._has_queues = True

    def step(self) -> bool:
        """Delivers a portion of each segment; whether there is more. False while another process delivers.

        Raises:
            StropError: MLflow cannot be reached, or refuses.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        try:
            return self._deliver()
        finally:
            self._lock.release()

    def _deliver(self) -> bool:
        positions = read_positions(self.spool)
        if positions.destination != self._destination:
            positions = Positions(self._destination, day=positions.day, reviews=positions.reviews)
        open_segments = self._open_segments(positions)
        ended = {path for path in open_segments if _has_ended(path)}
        # all of a segment's feedback up to here refers to responses that are written
        ends = {path: path.stat().st_size for path in open_segments if path.exists()}
        has_more = False
        for path, position in open_segments.items():
            portion = _read(path, position.responses, RESPONSE)
            self._add_responses([ServedResponse.from_json(line.record) for line in portion.lines], positions)
            position.responses = portion.end
            has_more |= portion.is_cut
            write_positions(self.spool, positions)
        if has_more:
            return True  # feedback follows when all responses are there
        for path, position in open_segments.items():
            portion = _read(path, position.feedback, FEEDBACK, ends.get(path, 0))
            self._add_feedback([Feedback.from_json(line.record) for line in portion.lines])
            position.feedback = portion.end
            has_more |= portion.is_cut
            position.is_complete = path in ended and not portion.is_cut
            write_positions(self.spool, positions)
        return has_more

    def _open_segments(self, positions: Positions) -> dict[Path, Position]:
        """The segments that are not known to be complete."""
        known = {}
        for path in segments(self.spool):
            try:
                known[path] = positions.of(path, self.spool)
            except FileNotFoundError:  # its retention ended meanwhile
                continue
        positions.keep({path.relative_to(self.spool).as_posix() for path in known})
        return {path: position for path, position in known.items() if not position.is_complete}

    def _add_responses(self, responses: list[ServedResponse], positions: Positions) -> None:
        erased = self._erased.ids()
        responses = [response for response in responses if response.id not in erased]
        reviews = self._choose(responses, positions)
        refused = self.traces.add([trace_of(response, tuple(reviews.get(response.id, ()))) for response in responses])
        if refused:
            responses_text = count_of(len(refused), "response")
            logger.warning(f"serve: MLflow refused the texts of {responses_text}, such as {refused[0]}")
        for response in reviews.keys() - {response.id for response in responses}:  # answered before its shadow
            self.traces.mark_for_review(response, ", ".join(reviews[response]))
        if reviews and (queue := self._open_queue()):
            add_to_queue(self.traces.registry, queue, list(reviews))

    def _add_feedback(self, items: list[Feedback]) -> None:
        """Without comments and demonstrations whose text is omitted."""
        erased = self._erased.ids()
        self.traces.add_feedback(item for item in items if item.response not in erased and item.value != "")

    def _choose(self, responses: list[ServedResponse], positions: Positions) -> dict[str, list[str]]:
        """Response that a person should look at → why; as many as the day has left."""
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        if positions.day != day:
            positions.day, positions.reviews = day, 0
        chosen: dict[str, list[str]] = {}
        if positions.reviews >= self.review.per_day:
            return chosen
        for response in responses:
            for name, why in self._reasons(response):
                if name in chosen or positions.reviews + len(chosen) < self.review.per_day:
                    chosen.setdefault(name, []).append(why)
        positions.reviews += len(chosen)
        return chosen

    def _reasons(self, response: ServedResponse) -> list[tuple[str, str]]:
        """(response, reason): a shadow answer may be the reason to look at the champion's."""
        reasons = [(response.id, why) for why in review_reasons(response, self.review)]
        if response.omitted or response.error or not response.answers:
            return reasons
        if response.is_shadow:
            answer = self._recent.get(response.shadow_of)
            if answer is not None and differ(answer, response.answers[0], self.review.least_agreement):
                reasons += [(response.id, DIFFERS), (response.shadow_of, DIFFERS)]
        else:
            self._recent[response.id] = response.answers[0]
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        return reasons

    def _open_queue(self) -> str | None:
        if self._queue is None and self._has_queues:
            self._queue = open_queue(self.traces.registry, self.review.reviewers)
            self._has_queues = self._queue is not None
            if not self._has_queues:
                logger.warning("serve: this MLflow server has no review queues: search by the tag strop.review")
        return self._queue


@dataclass
class _Portion:
    end: int
    lines: list[Line] = field(default_factory=list)
    is_cut: bool = False
    """There may be more lines."""


def _read(path: Path, offset: int, kind: str, limit: int | None = None) -> _Portion:
    """The next records of a kind. Nothing if the segment was removed.

    Args:
        limit: records that end after this byte are not read.
    """
    portion, size = _Portion(offset), 0
    try:
        for line in read_lines(path, offset):
            if limit is not None and line.end > limit:
                break
            portion.end = line.end
            if line.start[0] == kind:
                portion.lines.append(line)
                size += len(line.content)
            if len(portion.lines) >= MOST_RECORDS or size >= MOST_BYTES:
                portion.is_cut = True
                break
    except FileNotFoundError:
        pass
    return portion


def _has_ended(path: Path) -> bool:
    """Whether the gateway writes to a later segment."""
    return path != max(path.parent.glob(f"*{path.suffix}"), default=path)
