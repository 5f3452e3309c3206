"""The page of `strop compare` on a terminal: everything fits, and no name or answer acts as markup."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from flows.report.comparison import MAX_PARAMETERS, comparison_page
from tasks.lineage.compare import Comparison, FamilyCounts, SideBySide
from tasks.lineage.diff import Changes, Difference
from tasks.lineage.parameters import ParameterChange
from tasks.lineage.run_predictions import Measures, Model
from tasks.runtime.console import VisibleConsole
from tasks.scoring.paired_rows import Outcome
from tasks.scoring.statistics import Interval

COUNTS: dict[Outcome, int] = {"won": 1200, "lost": 3, "changed": 20, "same": 4}
DATA = Difference(60, 62, ["b7"], ["a1", "a2"], added=Changes(4), removed=Changes(2))
ROW = SideBySide(
    "f" * 32, "问[bold]答", "zh", "lost", "说\x1b[31m红", "好", "很好，" * 60, "bad \u202e answer " * 30, 1.0, 0.25
)
COMPARISON = Comparison(
    Model("v1", 1),
    Model("candidate v2", 2),
    [
        FamilyCounts("问[bold]答", 1227, COUNTS, 0.0312, Interval(-0.01, 0.07)),
        FamilyCounts("overall", 1227, COUNTS, None, None),
    ],
    5,
    1,
    2,
    [ROW],
    [ParameterChange("finetune.lora.rank", 4, 16), ParameterChange("a.b", None, {"深": [1]})],
    DATA,
    Measures({}, {}, True, ("data/predictions, of the last run",) * 2),
)


NAMES = {"gap": 0.02, "interval": [0, 0.1], "rows": 8}


def text_of(comparison: Comparison, width: int = 100, show: str | None = None) -> str:
    console = VisibleConsole(width=width, record=True, highlight=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(comparison_page(comparison, show))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 140])
def test_counts_differences_and_answers_fit_the_width(width: int) -> None:
    text = text_of(COMPARISON, width)
    for fact in (
        "v1 → candidate v2", "1,200", "+3.1 points", "[-1.0, +7.0]", "Families with different metrics have no mean in common.",
        "5 test rows of v1 only", "1 test row of candidate v2 only", "2 rows with another target", "finetune.lora.rank", "not set",
        '{"深": [1]}', "60 rows → 62 rows: 4 added, 2 removed", "1 batch added: b7", "2 batches removed: a1, a2",
        "candidate v2: 0.25",
    ):  # fmt: skip
        assert fact in text, fact
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_numbers_of_probes_and_forgetting_are_side_by_side() -> None:
    first = {
        "robustness": {"typos": {"drop": 0.1, "interval": [0.05, 0.15], "rows": 40}},
        "bias": {"names": {"gap": None, "interval": None, "rows": 8, "families": {"问[b]答": NAMES}}},
        "forgetting": {"anchors": {"rows": 9, "families": {"qa": {"score": 0.5, "interval": [0.2, 0.8], "rows": 9}}}},
    }
    second = {
        "robustness": {"typos": {"drop": 0.25, "interval": [0.2, 0.3], "rows": 40}},
        "grounding": {"qa": {"unsupported": 0.4, "interval": [0.3, 0.5], "rows": 7}},
    }
    text = text_of(replace(COMPARISON, measures=Measures(first, second, False, ("one", "another"))))
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert "robustness typos: drop 0.100 [0.050, 0.150] 0.250 [0.200, 0.300]" in lines
    assert "bias names (问[b]答): gap 0.020 [0.000, 0.100] –" in lines
    assert "grounding qa: unsupported – 0.400 [0.300, 0.500]" in lines
    assert "anchors: qa 0.500 [0.200, 0.800] –" in lines
    assert "They were measured in two runs, whose rows may differ." in lines
    assert "Other measures" not in text_of(COMPARISON)
    assert max(cell_len(line) for line in text.splitlines()) <= 100


def test_names_and_answers_are_no_markup_and_no_control_sequence() -> None:
    text = text_of(COMPARISON)
    assert "问[bold]答" in text
    assert "\\x1b[31m红" in text
    assert not {"\x1b", "\u202e"} & set(text)


def test_equal_data_and_parameters_are_reported_as_equal() -> None:
    text = text_of(replace(COMPARISON, parameters=[], data=None))
    assert "Parameters that differ\n  none" in text
    assert "none: both have the same dataset" in text


def test_what_could_not_be_compared_names_the_reason_and_a_base_has_neither() -> None:
    text = text_of(replace(COMPARISON, parameters=None, data=None, problem="data/curated is not in the cache."))
    assert "Parameters and data are not compared: data/curated is not in the cache." in text
    assert "Data that differ" not in text_of(replace(COMPARISON, parameters=None, data=None))


def test_many_parameters_and_no_answers_are_counted() -> None:
    changes = [ParameterChange(f"p{number}", 1, 2) for number in range(MAX_PARAMETERS + 7)]
    text = text_of(replace(COMPARISON, parameters=changes, rows=[]), show="lost")
    assert "7 more: --json" in text
    assert "No answer is lost." in text
