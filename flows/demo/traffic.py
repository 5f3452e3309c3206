"""The requests of a population, and what became of each: every one is counted, with the version that answered it.

traffic = Traffic(post, questions, sections, file)
traffic.ask(240)                        # as fast as the server answers
with traffic.in_background():           # while a round runs
    ...
traffic.exchanges
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from flows.demo.client import Post
from flows.demo.population import Question, feedback_on
from tasks.errors import one_line

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Users who wait for an answer at the same time."""
PAUSE_SECONDS = 3.0
"""Between two groups of requests in the background: a training shares the cores."""
LINE_EVERY_SECONDS = 15.0


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    number: int
    began: float
    """Seconds since 1970."""
    seconds: float
    user: str
    section: str
    answer: str = ""
    version: int = 0
    """Which answered; 0: none."""
    error: str = ""
    """Why there is no answer."""
    feedback: Literal["", "correction", "rating", "lost"] = ""
    """`lost`: the server did not accept it."""

    @property
    def is_right(self) -> bool:
        return self.answer == self.section


class Traffic:
    """Args: file: each exchange is appended to it, as a line of JSON. Its questions are not asked again."""

    def __init__(self, post: Post, questions: Iterator[Question], sections: Sequence[str], file: Path) -> None:
        self.exchanges = read_exchanges(file) if file.exists() else []
        self._post, self._sections, self._file = post, sections, file
        self._questions = islice(questions, len(self.exchanges), None)
        self._stop = threading.Event()
        self._last_line = time.monotonic()

    def ask(self, count: int) -> list[Exchange]:
        """Asks the next questions, some at once; feedback follows in the order of the questions."""
        began = len(self.exchanges)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while (left := count - (len(self.exchanges) - began)) > 0:
                group = list(islice(self._questions, min(left, AT_ONCE)))
                if not group:
                    break
                self._ask_group(group, pool)
                self._report(len(self.exchanges) - began, count)
        return self.exchanges[began:]

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Questions go on until the end of the block; those under way are completed."""
        self._stop.clear()
        with ThreadPoolExecutor(1, "population") as pool:
            work = pool.submit(self._go_on)
            try:
                yield
            finally:
                self._stop.set()
            work.result()

    def _go_on(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while not self._stop.wait(PAUSE_SECONDS) and (group := list(islice(self._questions, AT_ONCE))):
                self._ask_group(group, pool)

    def _ask_group(self, group: list[Question], pool: ThreadPoolExecutor) -> None:
        answered = list(pool.map(self._answer, group))
        exchanges = [self._with_feedback(question, *answer) for question, answer in zip(group, answered, strict=True)]
        self.exchanges += exchanges
        with self._file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(exchange), ensure_ascii=False) + "\n" for exchange in exchanges)

    def _answer(self, question: Question) -> tuple[float, float, dict[str, Any] | Exception]:
        began, start = time.time(), time.monotonic()
        try:
            result: dict[str, Any] | Exception = self._post("/predict", question.body)
        except Exception as error:  # any: the request was not answered, and that is counted  # noqa: BLE001
            result = error
        return began, time.monotonic() - start, result

    def _with_feedback(
        self, question: Question, began: float, seconds: float, result: dict[str, Any] | Exception
    ) -> Exchange:
        facts = (question.number, began, seconds, question.user, question.section)
        if isinstance(result, Exception):
            logger.warning(f"demo: question {question.number} was not answered: {one_line(result)}")
            return Exchange(*facts, error=one_line(result))
        answer, version = str(result["value"] or result["answer"]).strip(), int(result["version"])
        feedback = feedback_on(question, answer, self._sections)
        if feedback is None:
            return Exchange(*facts, answer, version)
        try:
            self._post("/feedback", {"response_id": result["id"], **feedback})
        except Exception as error:  # as above  # noqa: BLE001
            logger.warning(f"demo: feedback on question {question.number} was not accepted: {one_line(error)}")
            return Exchange(*facts, answer, version, feedback="lost")
        return Exchange(*facts, answer, version, feedback="correction" if "type" in feedback else "rating")

    def _report(self, done: int, count: int) -> None:
        if done == count or time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            recent = self.exchanges[-done:]
            right, corrected = (sum(each.is_right for each in recent), sum(e.feedback == "correction" for e in recent))
            logger.info(f"demo: {done}/{count} questions · {right} answers right · {corrected} corrected")


def read_exchanges(file: Path) -> list[Exchange]:
    return [Exchange(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
