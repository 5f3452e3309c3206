"""The summary: its content from the reports, and its layout."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from support.project import params, write_params

from flows.outcome import Outcome
from flows.report.markdown import as_markdown, score_rows
from flows.report.row_commands import command_for, failed_checks
from flows.report.summary import Summary, read_summary
from flows.report.terminal import shortened, summary_page
from tasks.config import load_config
from tasks.runtime.files import write_json, write_parquet
from tasks.runtime.visible_text import printable_markdown

VALIDATE = {
    "rows": 600, "accepted": 588, "refused": 12, "released": 0, "excluded": [],
    "reasons": {"encoding_damage": 4, "empty_output": 8},
    "set_aside": [{
        "batch": "ab12", "source": "news", "rows": 40, "refused_share": 0.6, "top_reasons": [["empty_output", 20], ["types", 4]],
    }],
    "batches": [{"batch": "ab12", "source": "news", "rows": 40, "accepted": 0, "refused": 40, "state": "set_aside"}],
}  # fmt: skip
CURATE = {"rows": 588, "dropped": {"exact_duplicate": 3}, "splits": {"test": 100, "train": 400, "valid": 85}}
RENDER = {"rows": CURATE["splits"], "without_example": {"train": {"answer_too_long": 2}}}


LOSSES = {"qa": {"loss": 2.5, "tokens": 154}, "topic": {"loss": 0.194, "tokens": 26}}


def _model(**families: float) -> dict[str, Any]:
    measures = {"topic": "exact match", "qa": "token F1"}
    measured = {
        name: {"measure": measures[name], "rows": 50, "score": value, "interval": [value - 0.05, value + 0.05]}
        for name, value in families.items()
    }
    if "qa" in measured:
        counts = {
            "rows": 3,
            "empty": 0,
            "loop": 2,
            "encoding_damage": 0,
            "template_leaked": 0,
            "wrong_script": 0,
            "cut_off": 1,
        }
        measured["qa"] |= {"degenerate": counts, "target_too_long": 4}
    return {
        "weights_digest": "d" * 64,
        "valid_perplexity": 12.5,
        "valid_losses": LOSSES,
        "families": measured,
    }


METRICS = {
    "test_rows": 100,
    "models": {"base": _model(topic=0.1, qa=0.2), "candidate": _model(topic=0.9, qa=0.5)},
}
VERDICT = {
    "passed": True, "reference": "base", "champion_version": None, "candidate_digest": "d" * 64, "alpha_spent": 0.025,
    "test_epoch": 1, "look": 1, "test_rows": 100,
    "checks": [
        {"name": "floor", "family": None, "passed": True, "number": 0.8, "bound": 0.6, "interval": None, "rows": 100,
         "detail": "the candidate scores 0.800, the floor is 0.600"},
        {"name": "not_worse/qa", "family": "qa", "passed": None, "number": 0.3, "bound": -0.1, "interval": [0.1, 0.5],
         "rows": 5, "detail": "5 test rows, 20 are needed to count"},
    ],
}  # fmt: skip


def _prediction(number: int, role: str) -> dict[str, Any]:
    family, language = ("topic", "en") if number % 2 else ("qa", "zh")
    return {
        "row_id": f"{number:032d}", "family": family, "language": language, "prompt": f"<s>第{number}题", "target": "sport",
        "prediction": "" if role == "base" else "sport", "score": 0.0 if role == "base" else 1.0,
    }  # fmt: skip


@pytest.fixture
def summary(project: Path) -> Summary:
    write_params(project, params("base", []))
    reports = {"validate": VALIDATE, "curate": CURATE, "render": RENDER, "metrics": METRICS, "verdict": VERDICT}
    for name, report in reports.items():
        write_json(project / f"data/reports/{name}.json", report)
    for role in ("base", "candidate"):
        rows = [_prediction(number, role) for number in range(20)]
        write_parquet(project / f"data/predictions/{role}.parquet", pa.Table.from_pylist(rows))
    return read_summary(load_config())


def test_rows_are_counted_by_what_became_of_them(summary: Summary) -> None:
    data = summary.data
    assert data is not None
    assert list(data.refused.items()) == [("empty_output", 8), ("encoding_damage", 4)]
    assert data.duplicates == 3
    assert (data.dropped, data.left_out) == ({"exact_duplicate": 3}, {"answer_too_long": 2})
    assert data.used == {"train": 398, "valid": 85, "test": 100}
    assert list(data.splits) == ["train", "valid", "test"]


def test_families_with_unlike_metrics_have_no_overall_score(summary: Summary, project: Path) -> None:
    assert [family.family for family in summary.families] == ["qa", "topic"]
    assert (summary.test_rows, summary.roles) == (100, ["base", "candidate"])
    assert "overall" not in as_markdown(summary, Outcome("refused", 1, 2))
    overall = {"rows": 100, "score": 0.8, "interval": [0.7, 0.9]}
    models = {role: {**model, "overall": overall} for role, model in METRICS["models"].items()}
    write_json(project / "data/reports/metrics.json", {**METRICS, "models": models})
    of_one_metric = read_summary(load_config())
    assert [family.family for family in of_one_metric.families] == ["qa", "topic", "overall"]
    assert of_one_metric.test_rows == 100


def test_each_family_has_a_line_with_every_model(summary: Summary) -> None:
    topic = summary.families[1]
    assert topic.measure == "exact match"
    assert topic.scores["candidate"].score == 0.9
    assert topic.scores["base"].interval == pytest.approx((0.05, 0.15))


NOTES = [
    "base: 3 of 50 answers of qa score 0 (loop 2, cut_off 1)",
    "candidate: 3 of 50 answers of qa score 0 (loop 2, cut_off 1)",
    "4 of 50 targets of qa are longer than evaluate.max_new_tokens: raise it",
]


def test_degenerate_answers_and_long_targets_have_a_note(summary: Summary) -> None:
    assert summary.answer_notes == NOTES
    text = as_markdown(summary, Outcome("refused", 1, 2))
    assert all(printable_markdown(note) in text for note in NOTES)


def test_answers_alternate_between_families_and_do_not_depend_on_scores(summary: Summary) -> None:
    assert [answers.family for answers in summary.answers] == ["qa", "topic", "qa"]
    assert summary.answers[0].predictions == {"base": "", "candidate": "sport"}


def test_the_terminal_shows_everything_at_any_width(summary: Summary) -> None:
    for width in (80, 140):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(summary_page(summary, Outcome("promoted", 1, 1)))
        text = console.export_text()
        for fact in (
            "600", "empty_output 8", "encoding_damage 4", "ab12", "60%", "90.0%", "[85.0, 95.0]", "12.50", "not_worse/qa",
            "valid loss", "0.194", "3 of 50 answers of qa score 0 (loop",
            "第0题", "Version 1 passed the gate and is now champion.", "strop history",
        ):  # fmt: skip
            assert fact in text, (fact, width)
        assert all(len(line) <= width for line in text.splitlines())


def test_markdown_has_the_same_content_and_intact_tables(summary: Summary) -> None:
    text = as_markdown(summary, Outcome("refused", 1, 2))
    for fact in (
        "The gate refused version 2; version 1 serves.",
        "empty_output 8",
        "90.0% [85.0, 95.0]",
        "第0题",
        "strop history",
    ):
        assert fact in text
    assert [row["family"] for row in score_rows(summary)] == ["qa", "topic"]


def _refused(*checks: tuple[str, str | None, bool | None, int], champion: int | None = 1) -> dict[str, Any]:
    entries = [
        {"name": name, "family": family, "passed": passed, "rows": rows, "detail": "the result"}
        for name, family, passed, rows in checks
    ]
    return {**VERDICT, "passed": False, "champion_version": champion, "checks": entries}


def test_each_failed_check_names_the_command_that_shows_its_rows(summary: Summary) -> None:
    verdict = _refused(
        ("floor", None, False, 50), ("not_worse/问答", "问答", False, 40), ("not_worse/a b", "a b", True, 40),
        ("plugin", None, False, 0), ("better", None, None, 90),
    )  # fmt: skip
    failed = replace(summary, verdict=verdict)
    commands = [
        "strop compare champion candidate --slice 'score < 1'",
        "strop compare champion candidate --family '问答' --show lost",
        "strop compare champion candidate --show lost",
    ]
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_page(failed))
    for text in (console.export_text(), as_markdown(failed, Outcome("refused", 1, 2), shows_answers=False)):
        assert [command for command in commands if command in text] == commands
        assert text.count("strop compare") == 3


def test_without_a_champion_the_rows_are_compared_with_the_base_and_a_name_with_a_space_is_quoted() -> None:
    verdict = _refused(("not_worse/a b", "a b", False, 40), champion=None)
    (check,) = failed_checks(verdict)
    assert command_for(check, verdict) == "strop compare base candidate --family 'a b' --show lost"


def test_after_a_promotion_the_former_champion_is_named_by_its_number() -> None:
    verdict = {**_refused(("not_worse/qa", "qa", True, 40), champion=4), "passed": True}
    assert command_for(verdict["checks"][0], verdict) == "strop compare v4 candidate --family qa --show lost"


@pytest.mark.parametrize(
    ("name", "where", "options"),
    [
        ("not_worse/qa", None, "--show lost"),
        ("slices/qa/label=世界", "target == '世界'", "--slice \"target == '世界'\" --show lost"),
        ("slices/qa/freshness=new", None, "--show lost"),
        ("degenerate/qa", None, "--slice \"degenerate != ''\""),
        ("floor/qa", None, "--slice 'score < 1'"),
        ("limits/grounding.qa.unsupported", None, "--slice unsupported"),
        ("limits/families.qa.degenerate.rows", None, "--slice \"degenerate != ''\""),
    ],
)
def test_the_command_of_a_check_selects_its_rows(name: str, where: str | None, options: str) -> None:
    check = {"name": name, "family": "qa", "rows": 40, "where": where}
    command = command_for(check, {"passed": False, "champion_version": 3, "checks": []})
    assert command == f"strop compare champion candidate --family qa {options}"


@pytest.mark.parametrize(
    ("name", "family", "where", "options"),
    [
        ("not_worse/qa", "qa", None, "--family qa --slice 'judge_score < first_judge_score'"),
        (
            "slices/qa/language=zh",
            "qa",
            "language == 'zh'",
            """--family qa --slice "(language == 'zh') and judge_score < first_judge_score\"""",
        ),
        ("not_worse/topic", "topic", None, "--family topic --show lost"),
        ("floor/qa", "qa", None, "--family qa --slice 'score < 1'"),
        (
            "better",
            None,
            None,
            """--slice "judge_score < first_judge_score or family not in ['qa'] and score < first_score\"""",
        ),
    ],
)
def test_the_rows_of_a_judged_family_are_those_that_the_judge_found_worse(
    name: str, family: str | None, where: str | None, options: str
) -> None:
    check = {"name": name, "family": family, "rows": 40, "where": where}
    verdict = {"passed": False, "champion_version": 3, "checks": [], "judged_families": ["qa"]}
    assert command_for(check, verdict) == f"strop compare champion candidate {options}"


@pytest.mark.parametrize("label", ["世界", "a b", "it's", "$HOME", "`id`", 'say "hi"', "back\\slash", "wow!x"])
def test_the_shell_reads_the_condition_of_a_command_unchanged(label: str) -> None:
    check = {"name": "slices/qa/label=x", "family": "qa", "rows": 40, "where": f"target == {label!r}"}
    command = command_for(check, {"passed": False, "champion_version": 3, "checks": []})
    shell = ["bash", "-c", f"printf '%s\\n' {command}"]
    words = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[7] == f"target == {label!r}"


def test_a_check_of_the_server_that_answered_is_about_no_row() -> None:
    verdict = _refused(("inference", None, False, 40), champion=None)
    assert command_for(verdict["checks"][0], verdict) is None


def test_a_candidate_that_passed_has_no_failed_checks() -> None:
    assert failed_checks({**VERDICT, "checks": [{"name": "better", "passed": None}]}) == []


def test_before_the_first_run_there_is_an_empty_summary(project: Path) -> None:
    write_params(project, params("base", []))
    empty = read_summary(load_config())
    assert empty.data is None
    assert empty.families == []
    Console(file=open("/dev/null", "w")).print(summary_page(empty))  # noqa: SIM115


def test_long_text_keeps_its_two_ends() -> None:
    short = shortened("start " + "x " * 500 + "end", limit=60)
    assert short.startswith("start")
    assert short.endswith("end")
    assert len(short) <= 60
