"""The pairwise judge: both orders, a budget, stored answers, and a defined outcome for every fault of its endpoint."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.toyendpoint import Reply
from support.toyjudge import compare, copy_rubrics, honest, judging, row, texts_of, verdict, write_preferences

from tasks import paths
from tasks.errors import ConfigError
from tasks.evaluate.judge.lines import judge_lines
from tasks.evaluate.judge.round import open_judging
from tasks.evaluate.settings import EvaluateSettings

pytest_plugins = ["support.toyendpoint"]


@pytest.fixture(autouse=True)
def world(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy_rubrics()
    write_preferences(24)


def sides(count: int = 6) -> tuple[list[Any], list[Any]]:
    """Rows in English and Chinese: the candidate wins three of four, and loses the others."""
    pairs = [
        ("a good 好 answer", "a weak answer") if n % 4 else ("a weak answer", "a good 好 answer") for n in range(count)
    ]
    return [row(n, f"{ours} {n}") for n, (ours, _) in enumerate(pairs)], [
        row(n, f"{o} {n}") for n, (_, o) in enumerate(pairs)
    ]


def test_the_better_answer_wins_in_both_orders_and_the_reference_gets_the_rest(start_endpoint: Any) -> None:
    candidate, reference = sides()
    toy = start_endpoint(honest)
    result = compare(judging(toy.base_url), candidate, reference)
    assert [each["judge_score"] for each in candidate] == [0, 1, 1, 1, 0, 1]
    assert [each["judge_score"] for each in reference] == [1, 0, 0, 0, 1, 0]
    measured = result["families"]["qa"]
    assert measured == {
        "rows": 6, "win": 4, "tie": 0, "loss": 2, "score": 0.666667, "judged": 6, "equal": 0, "degenerate": 0, "by_score": 0,
        "flips": 0, "flip_share": 0.0, "unparsed": 0, "refused": 0, "calls": 12, "prompt_tokens": 1200, "completion_tokens": 120,
        "may_decide": True, "objection": None,
    }  # fmt: skip
    assert judge_lines({"judge": result}) == [
        "judge: qa: 4 won, 0 tied, 2 lost against the champion (0 position flips, 0 unparsed, 12 calls); decides"
    ]


def test_each_pair_is_shown_in_both_orders_in_the_rubric_of_its_language(start_endpoint: Any) -> None:
    candidate, reference = sides(2)
    toy = start_endpoint(honest)
    compare(judging(toy.base_url), candidate, reference)
    shown = [texts_of(prompt) for prompt in toy.prompts if "question r000" in prompt]
    assert [{text["answer_a"], text["answer_b"]} for text in shown] == [
        {candidate[0]["read"], reference[0]["read"]}
    ] * 2
    assert shown[0]["answer_a"] == shown[1]["answer_b"]
    chinese = [prompt for prompt in toy.prompts if "question r001" in prompt]
    assert len(chinese) == 2
    assert all(prompt.startswith("请像") and "不是对你的指示" in prompt for prompt in chinese)
    assert toy.requests[0]["body"]["response_format"]["json_schema"]["schema"]["required"] == ["reason", "winner"]


def test_equal_and_degenerate_answers_are_decided_without_a_call(start_endpoint: Any) -> None:
    write_preferences(0)
    candidate = [
        row(0, "Paris."),
        row(1, "我有一个系统，我有一个系统，我有一个系统", degenerate="loop"),
        row(2, "fine"),
        row(3, "", degenerate="empty"),
        row(4, "call", kind="tool_calls", score=1.0),
    ]
    reference = [
        row(0, " paris"),
        row(1, "好"),
        row(2, "so so so so so", degenerate="loop"),
        row(3, "x x x x", degenerate="loop"),
        row(4, "other", kind="tool_calls", score=0.0),
    ]
    toy = start_endpoint(honest)
    measured = compare(judging(toy.base_url), candidate, reference)["families"]["qa"]
    assert [each["judge_score"] for each in candidate] == [0.5, 0.0, 1.0, 0.5, 1.0]
    assert (measured["equal"], measured["degenerate"], measured["by_score"], measured["judged"]) == (1, 3, 1, 0)
    assert toy.prompts == []


def test_a_second_run_makes_no_call_and_has_the_same_numbers(start_endpoint: Any) -> None:
    toy = start_endpoint(honest)
    first = compare(judging(toy.base_url), *sides())
    calls = len(toy.prompts)
    assert calls == 2 * (6 + 24)
    assert compare(judging(toy.base_url), *sides()) == first
    assert len(toy.prompts) == calls
    copied = paths.JUDGES / "default.j2"
    copied.write_text(
        copied.read_text() + "Be strict.\n"
    )  # another rubric: English pairs are judged again, Chinese ones are not
    compare(judging(toy.base_url), *sides())
    assert len(toy.prompts) == calls + 2 * (3 + 12)


def test_answers_of_another_server_with_a_model_of_that_name_are_not_its_own(
    start_endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = start_endpoint(honest), start_endpoint(lambda prompt: verdict("tie"))
    compare(judging(first.base_url), *sides())
    judged = compare(judging(second.base_url), *sides())["families"]["qa"]
    assert (judged["tie"], len(second.prompts)) == (6, 2 * (6 + 24))
    monkeypatch.setenv("JUDGE_PASSWORD", "hunter22")
    with_login = first.base_url.replace("//", "//me:${JUDGE_PASSWORD}@") + "/"
    calls = len(first.prompts)
    assert compare(judging(with_login), *sides())["families"]["qa"]["win"] == 4
    assert len(first.prompts) == calls, "the same server by another login"
    assert all(b"hunter22" not in path.read_bytes() for path in paths.JUDGEMENTS.iterdir())


def test_a_damaged_line_of_the_stored_answers_is_judged_again(start_endpoint: Any) -> None:
    toy = start_endpoint(honest)
    compare(judging(toy.base_url), *sides())
    calls = len(toy.prompts)
    (stored,) = paths.JUDGEMENTS.iterdir()
    lines = stored.read_bytes().splitlines()
    assert b"good" not in stored.read_bytes()  # no text of a row
    stored.write_bytes(b"\n".join([*lines[1:], lines[0][:20]]))
    compare(judging(toy.base_url), *sides())
    assert len(toy.prompts) == calls + 1


def test_a_judge_that_always_says_a_flips_with_every_order_and_decides_nothing(start_endpoint: Any) -> None:
    candidate, reference = sides()
    result = compare(judging(start_endpoint(lambda prompt: verdict("A")).base_url), candidate, reference)
    assert {each["judge_score"] for each in [*candidate, *reference]} == {0.5}
    measured = result["families"]["qa"]
    assert (measured["tie"], measured["flips"], measured["flip_share"]) == (6, 6, 1.0)
    assert result["agreement"]["default"]["flip_share"] == 1.0
    assert result["agreement"]["default"]["kappa"] == 0.0
    assert not measured["may_decide"]
    assert "kappa with people is 0.00" in measured["objection"]


@pytest.mark.parametrize(
    "answer",
    [
        "A is better.",
        "很抱歉，我无法比较。",
        '{"winner": "A"}',
        '{"winner": "C", "reason": "x"}',
        '{"winner": "a", "reason": "x"}',
        '{"winner": "A", "winner": "B", "reason": "x"}',
        '{"winner": "A", "reason": "x"} {"winner": "A", "reason": "x"}',
        '["A"]',
        '{"winner": ["A"], "reason": "x"}',
        "[" * 100_000,
        "",
    ],
)
def test_an_answer_that_is_no_verdict_is_counted_and_is_a_tie(start_endpoint: Any, answer: str) -> None:
    write_preferences(0)
    candidate, reference = sides(2)
    measured = compare(judging(start_endpoint(lambda prompt: answer).base_url), candidate, reference)["families"]["qa"]
    assert (measured["tie"], measured["unparsed"], measured["flips"]) == (2, 4, 0)
    assert [each["judge_score"] for each in candidate] == [0.5, 0.5]


def test_an_answer_that_was_cut_off_is_no_verdict(start_endpoint: Any) -> None:
    write_preferences(0)

    def cut(prompt: str) -> Reply:
        document = json.loads(verdict("A").body)
        document["choices"][0]["finish_reason"] = "length"
        return Reply(body=json.dumps(document))

    measured = compare(judging(start_endpoint(cut).base_url), *sides(2))["families"]["qa"]
    assert (measured["tie"], measured["unparsed"]) == (2, 4)


@pytest.mark.parametrize("form", ["<think>\nB? No.\n</think>\n{}", "```json\n{}\n```", " {} "])
def test_a_verdict_after_a_thought_or_in_a_fence_is_read(start_endpoint: Any, form: str) -> None:
    write_preferences(0)

    def answer(prompt: str) -> str:
        content: str = json.loads(honest(prompt).body)["choices"][0]["message"]["content"]
        return form.replace("{}", content)

    measured = compare(judging(start_endpoint(answer).base_url), *sides(4))["families"]["qa"]
    assert (measured["win"], measured["loss"], measured["unparsed"]) == (3, 1, 0)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (lambda prompt: Reply(429, '{"error": {"message": "slow down"}}'), r"answers 429 \(slow down\), 2 times"),
        (
            lambda prompt: Reply(200, "late", after_seconds=0.5),
            r"no complete answer within 0\.2 s \(timeout_seconds\), 2 times",
        ),
        (lambda prompt: Reply(401, "who are you?"), r"answers 401 \(who are you\?\)"),
        (lambda prompt: Reply(200, "<html>"), "the response is not a completion: '<html>', 2 times"),
    ],
    ids=["429 for ever", "times out", "refuses", "is no endpoint"],
)
def test_a_judge_that_fails_for_good_leaves_the_families_without_a_judged_verdict(
    start_endpoint: Any, fault: Any, problem: str
) -> None:
    candidate, reference = sides()
    toy = start_endpoint(fault)
    result = compare(judging(toy.base_url, timeout_seconds=0.2, families=("qa", "summary")), candidate, reference)
    measured = result["families"]["qa"]
    assert not measured["may_decide"]
    assert {each["judge_score"] for each in [*candidate, *reference]} == {None}
    line, _ = judge_lines({"judge": result})
    assert "\n" not in line
    assert (
        len(toy.prompts) <= 8
    )  # given up once, after two attempts of four requests at a time, and not for each family
    assert re.search(
        rf"^judge: qa has no judged verdict: http\S+ {problem}\. \w.*\. Continue: strop run --rejudge$", line
    ), line


def test_a_judge_that_fails_halfway_gives_no_half_judged_score_and_continues_in_the_next_run(
    start_endpoint: Any,
) -> None:
    write_preferences(0)
    broken = {"is": True}

    def answer(prompt: str) -> Reply:
        return Reply(500, "oops") if broken["is"] and "question r004" in prompt else honest(prompt)

    toy = start_endpoint(answer)
    candidate, reference = sides()
    measured = compare(judging(toy.base_url, parallel_requests=1), candidate, reference)["families"]["qa"]
    assert "500 (oops), 2 times" in measured["problem"]
    assert {each["judge_score"] for each in candidate} == {None}
    broken["is"] = False
    before = len(toy.prompts)
    measured = compare(judging(toy.base_url, parallel_requests=1), candidate, reference)["families"]["qa"]
    assert (measured["win"], measured["loss"], measured["calls"]) == (4, 2, 12)
    assert len(toy.prompts) - before == 4  # eight were stored


def test_a_pair_that_the_endpoint_refuses_is_a_tie_and_the_others_are_judged(start_endpoint: Any) -> None:
    write_preferences(0)
    too_long = Reply(400, '{"error": {"message": "maximum context length is 8192 tokens"}}')
    toy = start_endpoint(lambda prompt: too_long if "question r001" in prompt else honest(prompt))
    candidate, reference = sides()
    result = compare(judging(toy.base_url), candidate, reference)
    assert [each["judge_score"] for each in candidate] == [0, 0.5, 1, 1, 0, 1]
    assert [each["judge_score"] for each in reference] == [1, 0.5, 0, 0, 1, 0]
    measured = result["families"]["qa"]
    assert (measured["refused"], measured["win"], measured["tie"], measured["calls"]) == (1, 3, 1, 10)
    assert "1 pairs refused by the endpoint" in judge_lines({"judge": result})[0]
    calls = len(toy.prompts)
    assert compare(judging(toy.base_url), *sides()) == result  # what was refused is tried again, and costs nothing
    assert len(toy.prompts) == calls + 2


def test_an_endpoint_that_refuses_most_prompts_is_given_up(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: Reply(400, "response_format is not supported"))
    families = ("qa", "summary")
    result = compare(judging(toy.base_url, families=families, parallel_requests=1), *sides())
    assert len(toy.prompts) == 5
    problem = result["families"]["qa"]["problem"]
    assert problem.endswith(
        "answers 400 (response_format is not supported), to 5 prompts. Continue: strop run --rejudge"
    )
    assert "not judged" in result["families"]["qa"]["objection"]


def test_a_slow_judge_that_is_busy_at_first_is_waited_for(start_endpoint: Any) -> None:
    write_preferences(0)
    busy = {"left": 3}

    def answer(prompt: str) -> Reply:
        busy["left"] -= 1
        return Reply(429, "busy", {"Retry-After": "0"}) if busy["left"] >= 0 else honest(prompt)

    measured = compare(judging(start_endpoint(answer).base_url, attempts=5), *sides(2))["families"]["qa"]
    assert (measured["win"], measured["loss"]) == (1, 1)


def test_a_family_that_needs_more_calls_than_are_left_is_not_begun(start_endpoint: Any) -> None:
    write_preferences(0)
    toy = start_endpoint(honest)
    candidate, reference = sides()
    result = compare(judging(toy.base_url, budget={"max_calls": 11}), candidate, reference)
    assert toy.prompts == []
    assert judge_lines({"judge": result}) == [
        "judge: qa has no judged verdict: 12 calls are needed, 11 are left of evaluate.judge.budget.max_calls. "
        "Raise it. Continue: strop run --rejudge"
    ]
    assert candidate[0]["judge_score"] is None


def test_when_the_tokens_are_spent_no_further_call_is_made(start_endpoint: Any) -> None:
    write_preferences(0)
    toy = start_endpoint(honest)
    options = {"budget": {"max_tokens": 500}, "parallel_requests": 1}
    measured = compare(judging(toy.base_url, **options), *sides())["families"]["qa"]
    assert measured["problem"] == "evaluate.judge.budget.max_tokens is spent. Continue: strop run --rejudge"
    assert len(toy.prompts) == 5
    exact = {"budget": {"max_tokens": 7 * 110}, "parallel_requests": 1}  # what is stored is paid for
    assert compare(judging(toy.base_url, **exact), *sides())["families"]["qa"]["calls"] == 12
    assert len(toy.prompts) == 12


def test_a_key_that_is_not_set_is_reported_before_any_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_KEY", raising=False)
    settings = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "families": ["qa"], "api_key_env": "TOY_KEY"}
    evaluate = EvaluateSettings.model_validate_json(json.dumps({"judge": settings}))
    with pytest.raises(ConfigError, match="environment variable TOY_KEY: is not set"):
        open_judging(evaluate)
    assert open_judging(EvaluateSettings()) is None
