"""The check `limits`: bounds on any number of metrics.json, and what happens if there is no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from flows.report.row_commands import command_for
from tasks import paths
from tasks.errors import ConfigError
from tasks.gate.check import Check
from tasks.gate.limit_intervals import has_interval
from tasks.gate.number_paths import join_path, number_paths, split_path
from tasks.gate.pairing import PairedScores
from tasks.gate.policy import Verdict, decide, require_valid
from tasks.gate.settings import GateSettings
from tasks.lineage import drift_report as report_module
from tasks.runtime.files import write_json
from tasks.state.data_drift import drift_numbers, report_digests
from tasks.state.round import Champion, Round
from tasks.state.verdict import MANY_ROWS

FIRST, LATER = Round(None, 1, 0), Round(Champion(3, "c" * 64), 1, 0)
RIGHT = (np.arange(60) < 50).astype(float)
BETTER = PairedScores(np.full(60, "qa"), (np.arange(60) < 20).astype(float), RIGHT, np.full(60, "b1"))


def model(**changed: Any) -> dict[str, Any]:
    return {
        "families": {"qa": {"score": 0.8, "interval": [0.7, 0.9], "rows": 60, "exact_match": 0.75,
                            "languages": {}, "per_class": {}},
                     "新闻.en": {"score": 0.5, "rows": 9}},
        "robustness": {"typos": {"drop": 0.08, "interval": [0.05, 0.11], "rows": 60, "families": {}}, "case": {"drop": None}},
        "forgetting": {"anchors": {"score": 0.6, "interval": [0.4, 0.8], "rows": 20, "exact_match": 0.55},
                       "arc": {"problem": "the model answers no choice"}},
        "grounding": {"qa": {"unsupported": 0.08, "interval": [0.02, 0.2], "rows": 60}}, "shots": {"3": {"score": 0.7}},
        "size": {"bytes": 1_000_000}, "latency": {"answer_s": {"p95": 0.5}}, "bias": {"names": {"gap": float("nan")}},
        **changed,
    }  # fmt: skip


METRICS = {"models": {"base": model(), "champion": model(), "candidate": model()}}


def judged(limits: dict[str, Any], metrics: Any = METRICS, round_: Round = LATER, **settings: Any) -> Verdict:
    gate = GateSettings.model_validate({"bootstrap_samples": 500, "slices": (), "limits": limits, **settings})
    return decide(BETTER, gate, round_, metrics)


def checked(path: str, limit: dict[str, Any], metrics: Any = METRICS, round_: Round = LATER) -> Check:
    verdict = judged({path: limit}, metrics, round_)
    (check,) = [check for check in verdict.checks if check.name.startswith("limits/")]
    assert check.name == f"limits/{path}"
    assert verdict.outcome == ("passed" if check.passed else "refused")
    return check


ABSOLUTE = [
    ("grounding.qa.unsupported", {"at_most": 0.1}, True, "0.08 [0.02, 0.2]; at most 0.1"),
    ("forgetting.anchors.exact_match", {"at_least": 0.5}, True, "0.55 [0.3421, 0.7418]; at least 0.5"),
    ("shots.3.score", {"at_least": 0.5}, True, "0.7; at least 0.5"),
    ("robustness.typos.drop", {"at_most": 0.1}, True, "0.08 [0.05, 0.11]; at most 0.1"),
    ("robustness.typos.drop", {"at_most": 0.07}, False, "0.08 [0.05, 0.11]; at most 0.07"),
    (
        "forgetting.anchors.score",
        {"at_least": 0.6, "at_most": 0.9},
        True,
        "0.6 [0.4, 0.8]; at least 0.6 and at most 0.9",
    ),
    ("families.qa.score", {"at_least": 0.85}, False, "0.8 [0.7, 0.9]; at least 0.85"),
    ("families.qa.exact_match", {"at_least": 0.7}, True, "0.75 [0.6277, 0.8422]; at least 0.7"),
    ('families."新闻.en".score', {"at_least": 0.6}, False, "0.5; at least 0.6"),
]


@pytest.mark.parametrize(("path", "limit", "passed", "detail"), ABSOLUTE)
def test_a_number_is_compared_with_its_bounds(path: str, limit: Any, passed: bool, detail: str) -> None:
    check = checked(path, limit)
    assert (check.passed, check.detail, check.tier) == (passed, detail, "critical")
    assert check.number == float(detail.split()[0].rstrip(";"))


ANSWERS = model(
    families={"qa": {"score": 0.8, "accuracy": 0.8, "interval": [0.7, 0.9], "rows": 60, "unparsed": 6, "kinds": {
                         "free": {"rows": 40}, "tool_calls": {"rows": 20}}, "name_accuracy": 0.5, "macro_f1": 0.8,
                     "degenerate": {"rows": 6, "loop": 0}, "personal_data": {"email": 0}}},
    robustness={"injection": {"score": 0.07, "drop": 0.08, "interval": [0.05, 0.11], "rows": 60, "obeyed": 0.1}},
    forgetting={"arc": {"rows": 60, "acc": {"score": 0.5, "interval": None, "changes": {
                            "champion": {"score": -0.02, "interval": [-0.06, 0.02]}}}}},
)  # fmt: skip
ENDS = [
    ("families.qa.accuracy", "0.8 [0.7, 0.9]", 60),
    ("families.qa.macro_f1", "0.8", 60),
    ("families.qa.unparsed", "6 [2.799, 12.09]", 60),
    ("families.qa.degenerate.rows", "6 [2.799, 12.09]", 60),
    ("families.qa.degenerate.loop", "0 [0, 3.61]", 60),
    ("families.qa.personal_data.email", "0 [0, 3.61]", 60),
    ("families.qa.name_accuracy", "0.5 [0.2993, 0.7007]", 20),
    ("robustness.injection.score", "0.07", 60),
    ("robustness.injection.drop", "0.08 [0.05, 0.11]", 60),
    ("robustness.injection.obeyed", "0.1 [0.04664, 0.2015]", 60),
    ("forgetting.arc.acc.score", "0.5", 60),
    ("forgetting.arc.acc.changes.champion.score", "-0.02 [-0.06, 0.02]", 60),
    ("size.bytes", "1,000,000", 0),
]  # 6 of 60, 0 of 60, 10 of 20: Wilson's interval, of a count times the rows


@pytest.mark.parametrize(("path", "shown", "rows"), ENDS)
def test_the_interval_of_the_rows_behind_a_number_is_beside_it(path: str, shown: str, rows: int) -> None:
    check = checked(path, {"at_most": 2e6}, {"models": {**METRICS["models"], "candidate": ANSWERS}})
    assert (check.detail, check.rows) == (f"{shown}; at most 2,000,000", rows)
    assert ("[" in shown) == (check.interval is not None)
    assert has_interval(split_path(path)) == ("[" in shown or path == "forgetting.arc.acc.score")


WHOLE = [
    ("robustness.injection.drop", {"at_most": 0.12}, "passed", "yes"),
    ("robustness.injection.drop", {"at_most": 0.04}, "refused", "no"),
    (
        "robustness.injection.drop",
        {"at_most": 0.1},
        "inconclusive",
        "not shown; about 75 more of its rows would decide",
    ),
    ("families.qa.accuracy", {"at_least": 0.75}, "inconclusive", "not shown; about 180 more test rows would decide"),
    ("families.qa.accuracy", {"at_least": 0.8}, "inconclusive", "not shown; a million or more test rows would decide"),
    ("families.qa.degenerate.loop", {"at_most": 4}, "passed", "yes"),
    ("families.qa.accuracy", {"at_least": 0.6, "at_most": 0.65}, "refused", "no"),
]


@pytest.mark.parametrize(("path", "limit", "outcome", "result"), WHOLE)
def test_a_limit_may_hold_for_the_whole_interval(path: str, limit: dict[str, float], outcome: str, result: str) -> None:
    metrics = {"models": {**METRICS["models"], "candidate": ANSWERS}}
    verdict = judged({path: {**limit, "whole_interval": True}}, metrics)
    (check,) = [check for check in verdict.checks if check.name.startswith("limits/")]
    assert verdict.outcome == outcome
    assert check.detail.endswith(f" in the whole interval: {result}")
    needed = int(result.split("about ")[1].split()[0]) if "about" in result else MANY_ROWS
    assert verdict.rows_needed == (needed if "test rows" in result else None)


def test_a_number_without_an_interval_cannot_hold_in_the_whole_of_it() -> None:
    metrics = {"models": {**METRICS["models"], "candidate": ANSWERS}}
    for path in ("size.bytes", "forgetting.arc.acc.score"):
        verdict = judged({path: {"at_most": 2e6, "whole_interval": True}}, metrics)
        assert verdict.outcome == "refused"
        assert "there is no interval, and `whole_interval` is set" in verdict.failed[0].detail
    with pytest.raises(ValidationError, match="whole_interval is for `at_least` and `at_most`"):
        GateSettings.model_validate({"limits": {"size.bytes": {"at_most_times_champion": 1, "whole_interval": True}}})


RELATIVE = [
    ({"at_most_times_champion": 1.2}, 1_000_000, True, "1,200,000; at most 1.2 times the champion's (at most 1,200,000)"),
    ({"at_most_times_champion": 1.2}, 900_000, False, "1,200,000; at most 1.2 times the champion's (at most 1,080,000)"),
    ({"at_least_times_champion": 2}, 600_000, True, "1,200,000; at least 2 times the champion's (at least 1,200,000)"),
    ({"at_most_above_champion": 100}, 1_199_800, False, "1,200,000; at most 100 above the champion's (at most 1,199,900)"),
    ({"at_most_below_champion": 100}, 1_200_100, True, "1,200,000; at most 100 below the champion's (at least 1,200,000)"),
    ({"at_most_times_champion": 1.2}, -1, False,
     "not measured: a factor of the champion's number, which is negative (-1), has no meaning"),
    ({"at_most_times_champion": 1.2}, None, False, "not measured: the champion has no such number"),
]  # fmt: skip


@pytest.mark.parametrize(("limit", "champion", "passed", "detail"), RELATIVE)
def test_a_number_is_compared_with_the_champion_s(limit: Any, champion: Any, passed: bool, detail: str) -> None:
    of = {"champion": model(size={"bytes": champion}), "candidate": model(size={"bytes": 1_200_000})}
    check = checked("size.bytes", limit, {"models": of})
    assert (check.passed, check.detail) == (passed, detail)


def test_without_a_champion_the_number_is_compared_with_the_base_s() -> None:
    of = {"base": model(size={"bytes": 500_000}), "candidate": model()}
    check = checked("size.bytes", {"at_most_times_champion": 1.0}, {"models": of}, FIRST)
    assert check.detail == "1,000,000; at most 1 times the base's (at most 500,000)"


MISSING = [
    ("robustness.case.drop", "not measured: it is null"),
    ("bias.names.gap", "not measured: it is nan"),
    (
        "code.qa.pass_at_1",
        "not measured: metrics.json has no `code` of the model; see the settings of evaluate",
    ),
    ("families.law.score", "not measured: no row of family `law`"),
    ("grounding.law.unsupported", "not measured: no row of family `law`"),
    ("families.qa.languages.zh.score", "not measured: no row of language `zh`"),
    ("families.qa.per_class.退款.f1", "not measured: no row of label `退款`"),
    ("robustness.typos.families.law.drop", "not measured: no row of family `law`"),
    ("forgetting.arc.acc.score", "not measured: the model answers no choice"),
]


@pytest.mark.parametrize(("path", "detail"), MISSING)
def test_a_number_that_was_not_measured_fails_with_a_reason(path: str, detail: str) -> None:
    check = checked(path, {"at_most": 1.0})
    assert (check.passed, check.number, check.detail) == (False, None, detail)


UNKNOWN = [
    ("robustness.typo.drop", "Near it: robustness.typos.drop"),
    ("forgetting.anchors.scores", "Near it: forgetting.anchors.score"),
    ("size", "`size` is no number"),
]


@pytest.mark.parametrize(("path", "message"), UNKNOWN)
def test_an_unknown_path_is_an_error_that_names_near_ones(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^gate\.limits: ") as caught:
        judged({path: {"at_most": 1.0}})
    assert message in str(caught.value)


def test_a_path_of_no_measure_is_an_error_before_the_run() -> None:
    with pytest.raises(ConfigError, match="Near it: robustness"):
        require_valid(GateSettings.model_validate({"limits": {"robustnes.typos.drop": {"at_most": 0.1}}}))


def test_the_verdict_has_no_times_so_that_it_is_equal_when_measured_again() -> None:
    limit = {"latency.answer_s.p95": {"at_most": 1.0, "at_most_times_champion": 2}}
    slower = {"models": {**METRICS["models"], "candidate": model(latency={"answer_s": {"p95": 0.6}})}}
    assert judged(limit) == judged(limit, slower)
    (check,) = [check for check in judged(limit, slower).checks if check.name.startswith("limits/")]
    assert check.detail.startswith("at most 1 and at most 2 times the champion's: yes (metrics.json has the numbers")
    slow = {"models": {**METRICS["models"], "candidate": model(latency={"answer_s": {"p95": 1.1}})}}
    assert judged(limit, slow).outcome == "refused"


@pytest.mark.parametrize(("tier", "outcome"), [("supporting", "inconclusive"), ("advisory", "passed")])
def test_each_limit_has_a_tier(tier: str, outcome: str) -> None:
    path = "robustness.typos.drop"
    assert judged({path: {"at_most": 0.01}}, tiers={f"limits/{path}": tier}).outcome == outcome
    assert judged({path: {"at_most": 0.01}}, tiers={"limits": tier}).outcome == outcome


@pytest.mark.parametrize("path", ["", ".", "a..b", 'a."b', "a.b."])
def test_a_path_that_cannot_be_one_is_an_error_of_the_settings(path: str) -> None:
    with pytest.raises(ValidationError, match="path of a number"):
        GateSettings.model_validate({"limits": {path: {"at_most": 1.0}}})
    with pytest.raises(ValidationError, match="has no bound"):
        GateSettings.model_validate({"limits": {"size.bytes": {}}})


def test_paths_of_numbers_are_split_as_they_are_joined() -> None:
    for path in number_paths(METRICS["models"]["base"]):
        assert join_path(split_path(path)) == path
    assert split_path('families."新闻.en".score') == ("families", "新闻.en", "score")


def test_a_limit_of_a_family_names_its_rows_and_others_have_none() -> None:
    verdict = {"passed": False, "champion_version": 3}
    family, probe = checked("families.qa.score", {"at_least": 1.0}), checked("robustness.typos.drop", {"at_most": 0.0})
    named = command_for({"name": family.name, "family": family.family, "rows": family.rows}, verdict)
    assert named == "strop compare champion candidate --family qa --slice 'score < 1'"
    assert command_for({"name": probe.name, "family": probe.family, "rows": probe.rows}, verdict) is None


def drift_report(champion: int = 3, state: str = "measured", **changed: Any) -> None:
    entries = [{"psi": 0.4, "may_be_chance": False}, {"psi": 0.9, "may_be_chance": True}]
    facts = {"champion": champion, "state": state, "reports": report_digests(), "measured": {"drift": entries}}
    write_json(paths.DRIFT, facts | changed)


def test_the_drift_of_the_data_is_the_largest_index_beyond_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert drift_numbers(FIRST) == {"max_psi": 0.0}, "without a champion there is nothing to drift from"
    assert drift_numbers(LATER) == {"max_psi": None}, "not measured"
    write_json(paths.CURATE_REPORT, {"rows": 1})
    drift_report()
    assert drift_numbers(LATER) == {"max_psi": 0.4}
    drift_report(state="same data", measured=None)
    assert drift_numbers(LATER) == {"max_psi": 0.0}
    for other in ({"champion": 2}, {"state": "not measured"}, {"measured": None}):
        drift_report(**other)
        assert drift_numbers(LATER) == {"max_psi": None}
    drift_report()
    write_json(paths.CURATE_REPORT, {"rows": 2})
    assert drift_numbers(LATER) == {"max_psi": None}, "it is about other data"


def test_another_champion_of_equal_weights_has_a_report_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that names another version counts as not measured, so it must not be taken from the cache."""
    monkeypatch.setattr(report_module, "dataset_version", lambda: "d" * 32)
    digests = set()
    for version in (3, 4):
        monkeypatch.setattr(report_module, "read_round", lambda v=version: Round(Champion(v, "c" * 64), 1, 0))
        digests.add(report_module._inputs_digest())
    assert len(digests) == 2
