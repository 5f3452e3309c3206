"""The HTML report of a run: its numbers, its words, and that nothing in a row can act in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.toyrun import BIDI, HOSTILE, write_run

from flows.report.run_report import page, svg
from flows.report.run_report.answers import answers_of
from flows.report.run_report.content import read_content
from flows.report.run_report.verdict_words import explain, sentences
from tasks import paths
from tasks.config import load_config
from tasks.model_store.logged_files import is_report_of
from tasks.runtime.files import read_json, write_json, write_parquet
from tasks.state.verdict import outcome_of


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = tag

    def handle_data(self, data: str) -> None:
        {"script": self.scripts, "style": []}.get(self._within, self.texts).append(data)

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def written() -> str:
    assert page.write_report(load_config()) == paths.REPORT
    return paths.REPORT.read_text(encoding="utf-8")


@pytest.fixture
def report(project: Path) -> str:
    write_run()
    return written()


def test_no_text_of_a_row_is_markup_or_script(report: str) -> None:
    elements = Elements(report)
    assert [tag for tag, _ in elements.elements if tag in ("img", "iframe", "link", "object", "base")] == []
    assert [attributes for tag, attributes in elements.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert not [name for _, attributes in elements.elements for name in attributes if name.startswith("on")]
    data = json.loads(elements.scripts[0])
    assert HOSTILE in next(row for row in data if int(row["id"], 16) == 1)["answers"].values()
    assert "\u202e" not in report
    assert BIDI.replace("\u202e", "\\u202e") in next(row for row in data if int(row["id"], 16) == 3)["answers"].values()


def test_scores_of_anchors_lm_eval_and_few_shot_rows_are_one_table(project: Path) -> None:
    write_run()
    metrics = read_json(paths.METRICS)
    for index, model in enumerate(metrics["models"].values()):
        score = {"score": 0.25 + index / 8, "interval": [0.125, 0.875], "rows": 8}
        model["forgetting"] = {
            "anchors": {**score, "families": {"问答": score}},
            "arc_easy": {
                "rows": 5,
                "problem": "x",
                "acc": {**score, "rows": 5},
                "ppl": {"score": 12.5, "interval": None},
            },
        }
        model["shots"] = {"3": {**score, "families": {"qa": score}}}
    write_json(paths.METRICS, metrics)
    text = Elements(written()).text
    base, candidate = (f"{0.25 + list(metrics['models']).index(role) / 8:.4g}" for role in ("base", "candidate"))
    for name in ("anchors: 问答 8", "arc_easy: acc 5", "3 shots: qa 8"):
        line = text.partition(name)[2][:120]
        assert base in line
        assert candidate in line
        assert "[0.125, 0.875]" in line
    assert "arc_easy: ppl 5 12.5 12.5" in text


def test_a_hostile_label_and_family_are_escaped_in_tables(project: Path) -> None:
    write_run()
    content = read_content(load_config())
    content["families"][1]["family"] = HOSTILE
    content["families"][1]["confusion"]["columns"][0] = HOSTILE
    content["checks"][1] |= {"family": '"><script>', "detail": HOSTILE}
    content["curves"][0]["name"] = HOSTILE
    text = page.render(content)
    assert len([tag for tag, _ in Elements(text).elements if tag == "script"]) == 2
    assert "<img" not in text


def test_the_page_requests_nothing_and_allows_only_its_own_script(report: str) -> None:
    assert not re.search(
        r"""(?:src|href)\s*=|url\(|@import|https?://""", report.replace(page.as_script(HOSTILE)[1:-1], "")
    )
    policy = dict(Elements(report).elements[4][1])
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert str(policy["content"]).startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


def test_a_known_secret_is_not_in_the_page(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "hunter2-hunter2")
    write_run()
    content = read_content(load_config())
    content["answers"][0]["prompt"] = "the password is hunter2-hunter2"
    content["parameters"].append(("x", "postgres://me:hunter2-hunter2@db"))
    assert "hunter2" not in page.render(content)


def test_the_page_has_checks_slices_matrix_curves_and_parameters(report: str) -> None:
    text = Elements(report).text
    for fact in (
        "refused", "The new model was refused", "not_worse/qa", "critical", "[-0.110, +0.040]", "the gate's detail of better",
        "strop compare champion candidate --family qa --show lost", "language zh", "label 体育", "freshness new",
        "label ↓ answer →", "(other)", "learning rate", "finetune.lora.rank", "up to",
    ):  # fmt: skip
        assert fact in text, fact
    assert report.count("<svg") == report.count("</svg>") > 20


def test_measures_of_probes_are_a_table_with_a_number_for_each_role(project: Path) -> None:
    write_run()
    metrics = read_json(paths.METRICS)
    drop = {"drop": 0.25, "interval": [0.1, 0.4], "rows": 40}
    metrics.setdefault("models", {}).setdefault("candidate", {}).update(
        {
            "robustness": {"typos": drop, "case": {"drop": None, "interval": None, "rows": 0}},
            "grounding": {"qa": {"unsupported": 0.5, "interval": [0.2, 0.8], "rows": 9}},
        }
    )
    write_json(paths.METRICS, metrics)
    content = read_content(load_config())
    assert content["probes"] == [
        ("robustness case: drop", 0, {}),
        ("robustness typos: drop", 40, {"candidate": "0.250 [0.100, 0.400]"}),
        ("grounding qa: unsupported", 9, {"candidate": "0.500 [0.200, 0.800]"}),
    ]
    assert "0.250 [0.100, 0.400]" in page.render(content)


def test_equal_runs_give_equal_bytes(report: str) -> None:
    assert written() == report


def test_scores_of_a_family_are_those_of_its_rows(project: Path) -> None:
    write_run()
    content = read_content(load_config())
    (topic,) = [family for family in content["families"] if family["family"] == "topic"]
    (whole, *slices) = topic["slices"]
    of_dimension = {
        name: [s for s in slices if s.dimension == name] for name in ("language", "label", "length", "freshness")
    }
    for divided in of_dimension.values():
        assert sum(s.rows for s in divided) == whole.rows == 60
    mean = sum(s.rows * s.scores["candidate"][0] for s in of_dimension["language"]) / 60
    assert mean == pytest.approx(whole.scores["candidate"][0])
    assert all(low <= score <= high for s in slices for score, (low, high) in s.scores.values())


def test_the_rows_that_changed_most_are_kept_and_the_others_counted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.report.run_report import answers

    write_run()
    monkeypatch.setattr(answers, "MOST_ANSWERS", 10)
    content = read_content(load_config())
    assert (len(content["answers"]), content["left_out"]) == (10, 110)
    assert {row["outcome"] for row in content["answers"]} <= {"won", "lost"}


def test_how_code_fared_with_its_tests_is_shown() -> None:
    row = {
        "row_id": "a",
        "family": "code",
        "language": "en",
        "prompt": "p",
        "target": "t",
        "prediction": "x",
        "score": 0.0,
    }
    outcome = {"execution": "wrong", "execution_error": "AssertionError in line 1 of the tests"}
    rows, _ = answers_of({"candidate": pa.Table.from_pylist([row | outcome, row | {"row_id": "b"}])}, "champion")
    shown = {row["id"]: row["execution"] for row in rows}
    assert shown == {"a": "wrong: AssertionError in line 1 of the tests", "b": ""}


def test_outcomes_of_a_judged_family_are_the_judges() -> None:
    text = {"language": "en", "prompt": "p", "target": "t", "prediction": "x"}
    better, worse = {"score": 1.0, "judge_score": 0.0}, {"score": 0.0, "judge_score": 1.0}
    judged, other = (
        {"row_id": "a", "family": "qa", **text},
        {"row_id": "b", "family": "topic", **text, "judge_score": None},
    )
    tables = {
        "candidate": pa.Table.from_pylist([judged | better, other | {"score": 1.0}]),
        "champion": pa.Table.from_pylist([judged | worse, other | {"score": 0.0}]),
    }
    for families, outcomes in (
        ({"qa"}, {"a": ("lost", True), "b": ("won", False)}),
        ((), {"a": ("won", False), "b": ("won", False)}),
    ):
        rows, _ = answers_of(tables, "champion", families)
        assert {row["id"]: (row["outcome"], row["judged"]) for row in rows} == outcomes


def test_why_an_answer_is_degenerate_is_shown_and_other_columns_are_no_obstacle(project: Path) -> None:
    write_run()
    path = paths.PREDICTIONS / "candidate.parquet"
    rows = pq.read_table(path).drop_columns(["is_looping"])
    reasons = pa.array(["template leaked", *[None] * (rows.num_rows - 1)], pa.string())
    write_parquet(path, rows.append_column("degenerate", reasons))
    by_id = {int(row["id"], 16): row["degenerate"] for row in read_content(load_config())["answers"]}
    assert {number for number, reason in by_id.items() if reason} == {0}
    assert by_id[0] == "template leaked"


def test_without_predictions_and_without_a_champion_the_rest_is_shown(project: Path) -> None:
    import shutil

    write_run(passed=True, champion=False)
    shutil.rmtree(paths.PREDICTIONS)
    text = Elements(written()).text
    assert "it answers better than the base model" in text
    assert "Answers side by side" not in text


def test_an_older_report_does_not_stay_if_the_new_one_cannot_be_written(
    report: str, caplog: pytest.LogCaptureFixture
) -> None:
    paths.VERDICT.unlink()
    assert page.write_report(load_config()) is None
    assert not paths.REPORT.exists()
    assert "report: not written: data/reports/verdict.json: there is no verdict yet" in caplog.text


def test_a_report_names_its_verdict_so_that_no_other_run_logs_it(report: str) -> None:
    verdict = read_json(paths.VERDICT)
    assert is_report_of(paths.REPORT, verdict)
    assert not is_report_of(paths.REPORT, {**verdict, "look": 9})
    assert not is_report_of(paths.SUMMARY, verdict)


def _check(name: str, passed: bool | None, number: float | None, bound: float, *ends: float) -> dict[str, Any]:
    interval = list(ends) or None
    return {
        "name": name, "family": "qa", "passed": passed, "number": number, "bound": bound, "interval": interval, "rows": 40,
        "detail": "the detail",
    }  # fmt: skip


VERDICT: dict[str, Any] = {"passed": False, "champion_version": 3, "test_rows": 40, "look": 1, "checks": []}


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (
            _check("floor/qa", False, 0.612, 0.7, 0.5, 0.7),
            "scores 61.2%, which is not enough: at least 70.0% is required",
        ),
        (_check("not_worse/qa", False, -0.12, -0.05, -0.2, -0.06), "worse than the loss of 5.0 points that is allowed"),
        (_check("not_worse/qa", False, -0.01, -0.05, -0.09, 0.06), "A loss of more than 5.0 points is not ruled out"),
        (_check("not_worse/qa", True, 0.0, -0.05, -0.02, 0.02), "no higher and no lower than the champion (version 3)"),
        (_check("no_regression/qa", False, -0.1, -0.05, -0.2, -0.01), "So it became worse there."),
        (_check("better", False, 0.12, 0.025, -0.02, 0.09), "not shown to be better"),
        (_check("better", True, 0.00004, 0.025, 0.02, 0.09), "a probability of less than 0.1 %"),
        (
            _check("floor/qa", None, 0.2, 0.7, 0.1, 0.7),
            "is required. It has too few test rows to count (40).",
        ),
        (
            _check("better", True, 0.002, 0.025),
            "over all families together, compared with the champion (version 3); a model",
        ),
        (
            _check("slices/qa/language=zh", False, -0.5, -0.05, -0.6, -0.3),
            "on the rows with language=zh; the true difference is likely between -60.0 and -30.0 points. That shows a loss of more",
        ),
        (_check("degenerate/qa", False, 0.2, 0.5, 0.1, 0.3), "degenerate/qa: the detail."),
        (_check("of_a_plugin", False, None, 0.0), "of_a_plugin: the detail."),
        (_check("latency/qa", False, 0.31, 0.2, 0.28, 0.33), "latency/qa: the detail."),
    ],
)
def test_each_check_is_a_sentence(check: dict[str, Any], words: str) -> None:
    assert words in explain(check, VERDICT)


@pytest.mark.parametrize(
    ("facts", "result"),
    [({}, "refused"), ({"passed": True}, "passed"), ({"outcome": "inconclusive", "rows_needed": 1200}, "inconclusive")],
)
def test_a_verdict_has_one_of_three_results(facts: dict[str, Any], result: str) -> None:
    verdict = {**VERDICT, **facts}
    assert outcome_of(verdict) == result
    first = sentences(verdict)[0]
    assert {"passed": "passed", "refused": "was refused", "inconclusive": "cannot decide"}[result] in first
    assert ("the champion stays in service" in first) == (result != "passed")
    assert ("About 1,200 more test rows would decide it." in first) == (result == "inconclusive")


def test_a_model_that_an_advisory_check_found_worse_is_not_called_free_of_harm() -> None:
    worse = {**_check("not_worse/qa", False, -0.5, -0.05, -0.6, -0.4), "tier": "advisory"}
    first = sentences({**VERDICT, "passed": True, "checks": [worse]})[0]
    assert "no check found it worse" not in first
    assert "checks that are only reported failed: not_worse/qa." in first


def test_an_interval_is_drawn_to_scale() -> None:
    wide = _check("not_worse/qa", False, 0.0, -0.05, -0.1, 0.1)
    ends = [
        float(x) for x in re.findall(r'class="interval bad" x1="([\d.]+)" x2="([\d.]+)"', svg.check_plot(wide, 0.2))[0]
    ]
    assert ends == [64.0, 176.0], "a quarter and three quarters of the axis from 8 to 232"
    floor = _check("floor", True, 1.0, 0.5, 0.9, 1.0)
    assert 'class="bound" x1="120.0"' in svg.check_plot(floor, 0.2)
    assert svg.check_plot(_check("better", None, None, 0.1), 0.2) == ""
    share, size = (_check(f"limits/{path}", None, None, 0.1) for path in ("robustness.typos.drop", "size.bytes"))
    assert 'class="bound"' in svg.check_plot({**share, "interval": [0.05, 0.2], "number": 0.1, "bound": 0.15}, 0.2)
    assert svg.check_plot({**size, "interval": [3.0, 9.0], "number": 6, "bound": 5}, 0.2) == "", "not on the scale"
