"""The gate's stage: reads predictions, metrics and the round; writes a verdict, the same bytes every time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import paths
from tasks.errors import DataError
from tasks.gate import stage
from tasks.gate.settings import GateSettings
from tasks.runtime.files import read_json, write_json, write_parquet
from tasks.state.round import Champion, Round, write_round

CONFIG: Any = SimpleNamespace(gate=GateSettings(bootstrap_samples=500))
CHAMPION = Champion(3, "c" * 64)


def predict(role: str, scores: list[float], family: str = "topic") -> None:
    columns = {
        "row_id": [f"r{i:03}" for i in range(len(scores))],
        "batch": ["b1"] * len(scores),
        "family": [family] * len(scores),
        "target": ["sport"] * len(scores),
        "kind": ["classification"] * len(scores),
        "source": ["news"] * len(scores),
        "use": ["train"] * len(scores),
        "degenerate": [None] * len(scores),
        "personal_data": [None] * len(scores),
        "language": ["en", "zh"] * (len(scores) // 2),
        "score": scores,
    }
    schema = pa.schema(
        [
            ("row_id", pa.string()),
            ("batch", pa.string()),
            ("family", pa.string()),
            ("target", pa.string()),
            ("kind", pa.string()),
            ("source", pa.string()),
            ("use", pa.string()),
            ("degenerate", pa.string()),
            ("personal_data", pa.string()),
            ("language", pa.string()),
            ("score", pa.float64()),
        ]
    )
    write_parquet(paths.PREDICTIONS / f"{role}.parquet", pa.table(columns, schema=schema))


def measured(**digests: str) -> None:
    write_json(paths.METRICS, {"models": {role: {"weights_digest": digest} for role, digest in digests.items()}})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A round with champion 3, and a candidate that is right on 50 of 60 rows where the champion is on 20."""
    monkeypatch.chdir(tmp_path)
    write_round(Round(CHAMPION, 2, 1, 0.5, 60), paths.ROUND)
    measured(base="b" * 64, champion="c" * 64, candidate="d" * 64)
    predict("base", [0.0] * 60)
    predict("champion", [1.0] * 20 + [0.0] * 40)
    predict("candidate", [1.0] * 50 + [0.0] * 10)
    return tmp_path


def test_the_verdict_has_every_check_its_number_and_its_bound(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.run(CONFIG)
    verdict = read_json(paths.VERDICT)
    checks = verdict.pop("checks")
    assert 0.05 < verdict.pop("detectable_gain") < 0.5
    assert verdict == {
        "outcome": "passed",
        "passed": True,
        "rows_needed": None,
        "reference": "champion",
        "champion_version": 3,
        "candidate_digest": "d" * 64,
        "alpha_spent": 0.00833333,
        "test_epoch": 2,
        "look": 2,
        "test_rows": 60,
        "judged_families": [],
    }
    assert [check["name"] for check in checks] == [
        "not_worse/topic", "slices/topic/language=en", "slices/topic/language=zh", "better"
    ]  # fmt: skip
    fields = {
        "name",
        "family",
        "passed",
        "number",
        "bound",
        "interval",
        "rows",
        "detail",
        "rows_needed",
        "tier",
        "is_open",
        "where",
    }
    assert set(checks[0]) == fields
    assert checks[0]["number"] == 0.5
    assert checks[0]["bound"] == -0.05
    assert capsys.readouterr().err.startswith("gate: passed, better than the champion: +0.500")


def test_equal_inputs_give_equal_bytes(world: Path) -> None:
    predict("champion", [i / 70 for i in range(60)])
    predict("candidate", [i / 60 for i in range(60)])
    stage.run(CONFIG)
    first = paths.VERDICT.read_bytes()
    stage.run(CONFIG)
    assert paths.VERDICT.read_bytes() == first
    json.loads(first, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_refusal_is_a_result_and_names_the_failed_check(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("candidate", [0.0] * 60)
    stage.run(CONFIG)
    assert (read_json(paths.VERDICT)["outcome"], read_json(paths.VERDICT)["passed"]) == ("refused", False)
    out = capsys.readouterr().err
    assert "gate: refused" in out
    assert "not_worse/topic: -0.333 [" in out


def test_an_inconclusive_verdict_names_the_rows_that_would_decide(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict("candidate", [1.0] * 22 + [0.0] * 38)
    stage.run(CONFIG)
    verdict = read_json(paths.VERDICT)
    assert (verdict["outcome"], verdict["passed"]) == ("inconclusive", False)
    out = capsys.readouterr().err
    assert f"gate: inconclusive, about {verdict['rows_needed']} more test rows would decide\n" in out
    assert "gate:   better: +0.033 [" in out


def test_without_a_champion_the_base_is_the_reference(world: Path) -> None:
    write_round(Round(None, 1, 0), paths.ROUND)
    predict("champion", [1.0] * 60)  # left over from another round: not looked at
    stage.run(CONFIG)
    verdict = read_json(paths.VERDICT)
    assert (verdict["passed"], verdict["reference"], verdict["champion_version"]) == (True, "base", None)


def test_no_test_rows_decide_nothing_with_a_clear_check(world: Path) -> None:
    predict("champion", [])
    predict("candidate", [])
    stage.run(CONFIG)
    verdict = read_json(paths.VERDICT)
    assert (verdict["outcome"], verdict["rows_needed"]) == ("inconclusive", 20)
    assert "no family has the 20 test rows" in verdict["checks"][-1]["detail"]


def test_predictions_for_another_champion_are_refused(world: Path) -> None:
    measured(champion="e" * 64, candidate="d" * 64)
    with pytest.raises(DataError, match="another champion"):
        stage.run(CONFIG)


@pytest.mark.parametrize("file", [paths.ROUND, paths.METRICS, paths.PREDICTIONS / "champion.parquet"])
@pytest.mark.parametrize("content", [None, b"{}", b"half a"])
def test_a_missing_or_damaged_file_is_one_clear_line(world: Path, file: Path, content: bytes | None) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        stage.run(CONFIG)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def judged(may_decide: bool = True, reference: str = "champion", family: str = "topic") -> None:
    """The judge prefers the candidate's answers: in data/predictions as in metrics.json."""
    families = {family: {"may_decide": may_decide, "objection": None}}
    write_json(paths.METRICS, {**read_json(paths.METRICS), "judge": {"reference": reference, "families": families}})
    for role, score in (("candidate", 1.0), ("champion", 0.0)):
        path = paths.PREDICTIONS / f"{role}.parquet"
        table = pq.read_table(path)
        write_parquet(path, table.append_column("judge_score", pa.array([score] * len(table), pa.float64())))


def equal_scores() -> None:
    predict("champion", [0.5] * 60)
    predict("candidate", [0.5] * 60)


def test_a_judge_that_may_decide_decides_a_family_in_place_of_its_score(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    equal_scores()
    judged()
    stage.run(CONFIG)
    verdict = read_json(paths.VERDICT)
    assert (verdict["outcome"], verdict["judged_families"]) == ("passed", ["topic"])
    assert verdict["checks"][0]["number"] == 1.0
    assert "gate: the judge's verdicts are the scores of topic" in capsys.readouterr().err


def test_a_floor_holds_for_the_candidate_s_own_score_also_where_the_judge_decides(world: Path) -> None:
    equal_scores()
    judged()
    config: Any = SimpleNamespace(gate=GateSettings(bootstrap_samples=500, floor=0.6))
    stage.run(config)
    verdict = read_json(paths.VERDICT)
    (floor,) = [check for check in verdict["checks"] if check["name"] == "floor/topic"]
    assert (verdict["outcome"], floor["passed"], floor["number"]) == ("refused", False, 0.5)


@pytest.mark.parametrize(
    "options", [{"may_decide": False}, {"reference": "base"}, {"family": "qa"}], ids=["no vote", "reference", "family"]
)
def test_a_judge_that_only_reports_changes_no_verdict(world: Path, options: dict[str, Any]) -> None:
    equal_scores()
    stage.run(CONFIG)
    before = read_json(paths.VERDICT)
    judged(**options)
    stage.run(CONFIG)
    after = read_json(paths.VERDICT)
    assert after.pop("judged_families") == (["qa"] if "family" in options else [])
    assert {**before, "judged_families": None} == {**after, "judged_families": None}


def test_a_family_that_is_judged_in_part_is_refused_as_damaged(world: Path) -> None:
    judged()
    path = paths.PREDICTIONS / "candidate.parquet"
    table = pq.read_table(path)
    scores = pa.array([None, *[1.0] * 59], pa.float64())
    write_parquet(path, table.set_column(table.column_names.index("judge_score"), "judge_score", scores))
    with pytest.raises(DataError, match="1 scores of the candidate are not numbers from 0 to 1"):
        stage.run(CONFIG)
