"""Room `lineage`: drift between versions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from tasks.lineage.drift import ALL, OTHER, _divergence, compare, length_bin, profile
from tasks.lineage.drift_plot import draw_drift


def rows(count: int, seed: int, sport: float = 0.5, language: str = "en", words: int = 8) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    pool = "比赛球队市场股票冠军" if language == "zh" else ["match", "team", "market", "stock", "champion"]
    result = []
    for number in range(count):
        text = ("" if language == "zh" else " ").join(draw.choices(pool, k=words))
        label = "sport" if draw.random() < sport else "业务"
        row = {"row_id": f"{seed}-{number}", "family": "topic", "instruction": "", "input": text, "output": label}
        result.append({**row, "language": language})
    return result


def by_what(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    return {drift.what: drift for drift in compare(profile(before), profile(after))}


def test_two_samples_of_the_same_source_are_steady() -> None:
    result = by_what(rows(2000, 1), rows(2000, 2))
    assert {drift.level for drift in result.values()} == {"steady"}
    assert set(result) == {"label", "input length", "output length", "word", "language"}


def test_labels_that_change_their_shares_are_reported_and_nothing_else() -> None:
    result = by_what(rows(2000, 1, sport=0.9), rows(2000, 2, sport=0.3))
    assert result["label"].level == "major"
    assert result["word"].before.keys() == result["word"].after.keys()
    assert result["input length"].level == "steady"


def test_labels_that_turn_into_free_text_are_reported() -> None:
    after = [{**row, "output": f"{row['output']} {row['row_id']}"} for row in rows(2000, 2)]
    result = by_what(rows(2000, 1), after)["label"]
    assert (result.level, result.moved(1)) == ("major", [OTHER])


def test_words_that_no_two_rows_share_are_no_drift() -> None:
    sides = [
        [{**row, "input": f"{row['input']} w{seed}x{number}"} for number, row in enumerate(rows(500, seed))]
        for seed in (1, 2)
    ]
    assert by_what(*sides)["word"].level == "steady"


def test_families_that_change_their_shares_are_reported() -> None:
    before = [*rows(900, 1), *({**row, "family": "问答"} for row in rows(100, 2))]
    after = [*rows(500, 3), *({**row, "family": "问答"} for row in rows(500, 4))]
    result = next(drift for drift in compare(profile(before), profile(after)) if drift.what == "family")
    assert (result.family, result.level, result.after["问答"]) == (ALL, "major", 0.5)


def test_few_rows_that_pass_the_threshold_by_chance_are_said_to() -> None:
    few = by_what(rows(12, 1), rows(12, 4))["label"]
    assert few.level != "steady"
    assert few.may_be_chance
    assert not by_what(rows(2000, 1, sport=0.9), rows(2000, 2, sport=0.3))["label"].may_be_chance


def test_another_language_and_longer_texts_are_reported() -> None:
    result = by_what(rows(1000, 1), rows(1000, 2, language="zh", words=30))
    assert {result[what].level for what in ("language", "word", "input length")} == {"major"}
    assert result["language"].js == pytest.approx(1.0, abs=0.01)


def test_the_indices_are_those_of_their_definitions() -> None:
    result = by_what(rows(5000, 1, sport=0.8), rows(5000, 2, sport=0.5))["label"]
    p = [result.before[label] for label in sorted(result.before)]
    q = [result.after[label] for label in sorted(result.before)]
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    assert result.psi == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-3)
    assert result.js == pytest.approx((entropy(p, middle, base=2) + entropy(q, middle, base=2)) / 2, abs=1e-3)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_the_divergence_is_that_of_scipy(counts: list[tuple[int, int]]) -> None:
    from scipy.spatial.distance import jensenshannon

    p, q = (np.array(side, dtype=float) + 1e-4 for side in zip(*counts, strict=True))
    with np.errstate(invalid="ignore"):  # the root of less than nothing, by rounding
        expected = np.nan_to_num(jensenshannon(p, q, base=2)) ** 2
    assert _divergence(p, q) == pytest.approx(expected, abs=1e-12)
    assert _divergence(p, p) == 0


def test_lengths_double_from_bin_to_bin() -> None:
    assert [length_bin(n) for n in (0, 1, 2, 3, 4, 7, 8, 1000)] == [
        "0",
        "1",
        "2-3",
        "2-3",
        "4-7",
        "4-7",
        "8-15",
        "512-1023",
    ]


def test_the_picture_shows_chinese_labels_as_text_and_is_the_same_each_time(tmp_path: Path) -> None:
    drifts = compare(profile(rows(500, 1, sport=0.9)), profile(rows(500, 2, sport=0.3)))
    for name in ("a.svg", "b.svg"):
        draw_drift(drifts, ("v1", "now"), tmp_path / name)
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "业务" in drawn
    assert "sport" in drawn
    assert "Noto Sans CJK SC" in drawn
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_label_with_dollars_is_drawn_as_it_is(tmp_path: Path) -> None:
    side = [{**row, "output": "$5 to $6" if row["output"] == "sport" else "x"} for row in rows(500, 1)]
    draw_drift(compare(profile(side), profile(side)), ("v1", "now"), tmp_path / "a.svg")
    assert "$5 to $6" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_versions_without_a_family_in_common_give_a_picture_too(tmp_path: Path) -> None:
    draw_drift(compare(profile([]), profile(rows(5, 1))), ("v1", "now"), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").exists()
