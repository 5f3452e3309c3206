"""The simulated population of the loop: what it asks, what it says, and how its answers are counted."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from flows.demo.population import Question, feedback_on, questions
from flows.demo.served_counts import by_minute, by_version
from flows.demo.traffic import Exchange, Traffic, read_exchanges
from tasks.errors import StropError
from tasks.feedback.check import check_feedback

LEARNED, NEW = ("business", "财经"), ("sport", "体育")
SECTIONS = (*LEARNED, *NEW)
ARTICLES = [{"text": f"{section} {number}", "label": section} for number in range(100) for section in SECTIONS]


def first(count: int) -> list[Question]:
    return list(islice(questions(ARTICLES, LEARNED, ARTICLES[:20]), count))


def test_the_population_asks_the_same_questions_each_time_and_none_twice() -> None:
    requests = first(200)
    assert requests == first(200)
    assert len({question.text for question in requests}) == 200
    assert not {question.text for question in requests} & {article["text"] for article in ARTICLES[:20]}
    assert all(question.section == question.text.split()[0] for question in requests)
    new = sum(question.section in NEW for question in requests) / 200
    assert 0.6 < new < 0.8


def test_some_users_ask_more_than_others_but_none_asks_most_questions() -> None:
    users = Counter(question.user for question in first(200))
    assert len(users) > 15
    assert 15 < users.most_common(1)[0][1] < 50


def test_a_wrong_answer_is_corrected_and_a_right_one_rated() -> None:
    output = [(question, feedback_on(question, "sport", SECTIONS)) for question in first(200)]
    wrong = [document for question, document in output if question.section != "sport" and document]
    right = [document for question, document in output if question.section == "sport" and document]
    assert {str(document["value"]) for document in right} == {"True"}
    corrections = [(q, d["value"]) for q, d in output if d and "type" in d]
    assert 0.75 < len(corrections) / len(wrong) < 0.95
    mistakes = [value for question, value in corrections if value != question.section]
    assert len(mistakes) <= 0.1 * len(corrections)
    for _, document in output:
        if document:
            check_feedback({"response_id": f"resp_{1:032x}", **document})


def test_who_says_something_does_not_depend_on_the_answer() -> None:
    """Otherwise the rows made of feedback would mostly be errors of the champion, and the gate would see a gain where none is."""
    for question in first(100):
        says = {feedback_on(question, answer, SECTIONS) is None for answer in SECTIONS}
        assert len(says) == 1


def exchange(number: int, began: float, section: str, answer: str, version: int, **more: Any) -> Exchange:
    return Exchange(number, 1000 + began, 0.5, "u", section, answer, version, **more)


STORY = [
    exchange(1, 0, "体育", "财经", 1, feedback="correction"),
    exchange(2, 10, "business", "business", 1, feedback="rating"),
    exchange(3, 70, "sport", "sport", 1),
    exchange(4, 71, "体育", "体育", 2),
    exchange(5, 72, "sport", "", 0, error="refused"),
]


def test_answers_are_counted_by_version_and_kind_of_section() -> None:
    lost, before, after = by_version(STORY, LEARNED)
    assert (lost.version, lost.requests) == (0, 1)
    assert (before.first, before.last, before.corrections, before.ratings) == (0, 70.5, 1, 1)
    assert (before.new.right, before.new.answers, before.learned.share) == (1, 2, 1.0)
    assert (after.new.share, after.learned.share) == (1.0, None)


def test_answers_are_counted_minute_by_minute() -> None:
    counts = [(each.minute, each.version, each.new.right, each.new.answers) for each in by_minute(STORY, LEARNED)]
    assert counts == [(0, 1, 0, 1), (1, 0, 0, 1), (1, 1, 1, 1), (1, 2, 1, 1)]


def test_a_request_without_an_answer_is_counted_with_its_error(tmp_path: Path) -> None:
    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/feedback":
            raise StropError("the records are away")
        if body["fields"]["text"].endswith("7"):
            raise ConnectionError("reset by 对方")
        return {"id": "resp_1", "value": "sport", "answer": "sport", "version": 3}

    file = tmp_path / "requests.jsonl"
    traffic = Traffic(post, questions(ARTICLES, LEARNED, []), SECTIONS, file)
    exchanges = traffic.ask(50)
    assert [each.number for each in exchanges] == list(range(1, 51))
    assert read_exchanges(file) == exchanges
    assert {each.error for each in exchanges if each.version == 0} == {"reset by 对方"}
    assert {each.feedback for each in exchanges if each.version == 3} == {"", "lost"}


def test_a_population_that_was_interrupted_goes_on_with_the_next_question(tmp_path: Path) -> None:
    requests: list[str] = []

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        requests.extend([body["fields"]["text"]] if path == "/predict" else [])
        return {"id": "resp_1", "value": "体育", "answer": "体育", "version": 1}

    for count in (6, 10):
        Traffic(post, questions(ARTICLES, LEARNED, []), SECTIONS, tmp_path / "requests.jsonl").ask(count)
    assert [each.number for each in read_exchanges(tmp_path / "requests.jsonl")] == list(range(1, 17))
    assert len(set(requests)) == 16


def test_the_population_ends_when_the_articles_do(tmp_path: Path) -> None:
    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"id": "resp_1", "value": "sport", "answer": "sport", "version": 1}

    traffic = Traffic(post, questions(ARTICLES[:40], LEARNED, []), SECTIONS, tmp_path / "requests.jsonl")
    requests = traffic.ask(100)
    assert 20 < len(requests) < 40
