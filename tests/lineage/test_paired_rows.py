"""Predictions of two models are paired on the rows that both have, whatever else differs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from support.versions import prediction

from tasks.errors import ConfigError, DataError
from tasks.lineage.compare import OVERALL, count_by_family, select, side_by_side
from tasks.lineage.parameters import changed_parameters
from tasks.scoring.paired_rows import Pairing, outcomes_of, pair_rows


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def pair() -> Pairing:
    """Row 1 lost, 2 won, 3 same, 4 another answer; 5 and 6 of one model each."""
    first = table(
        *(prediction(n, "旧" if n != 3 else "sport", s) for n, s in ((5, 1), (4, 0.5), (3, 1), (2, 0), (1, 1)))
    )
    second = table(
        *(prediction(n, "新" if n != 3 else "sport", s) for n, s in ((1, 0), (2, 1), (3, 1), (4, 0.5), (6, 1)))
    )
    return pair_rows(first, second)


def test_rows_are_paired_by_id_and_the_others_are_counted() -> None:
    pairing = pair()
    assert [int(row_id, 16) for row_id in pairing.rows["row_id"].to_pylist()] == [1, 2, 3, 4]
    assert outcomes_of(pairing.rows).tolist() == ["lost", "won", "same", "changed"]
    assert (pairing.only_first, pairing.only_second, pairing.not_comparable) == (1, 1, 0)


def test_a_row_with_another_target_or_without_a_score_is_counted_and_not_compared() -> None:
    first = table(*(prediction(n, "是", 1.0) for n in range(1, 5)))
    second = table(
        prediction(1, "是", 1.0, target="否"),
        prediction(2, "是", float("nan")),
        prediction(3, "是", 1.0, family="other"),
        prediction(4, "是", 0.0),
    )
    pairing = pair_rows(first, second)
    assert (pairing.rows.num_rows, pairing.not_comparable) == (1, 3)


def test_a_row_that_occurs_twice_is_an_error() -> None:
    with pytest.raises(DataError, match="1 test rows occur more than once"):
        pair_rows(table(prediction(1, "a", 1.0), prediction(1, "b", 1.0)), table(prediction(1, "a", 1.0)))


def test_families_with_different_metrics_have_no_mean_in_common() -> None:
    counted = count_by_family(pair().rows, 0.95, 500, 17)
    assert [(f.family, f.rows, f.difference) for f in counted] == [
        ("qa", 2, 0.5),
        ("topic", 2, -0.5),
        (OVERALL, 4, None),
    ]
    assert counted[-1].counts == {"won": 1, "lost": 1, "changed": 1, "same": 1}
    one_kind = count_by_family(select(pair().rows, "", "topic"), 0.95, 500, 17)
    assert one_kind[-1].difference == -0.5
    assert one_kind[-1].interval is not None
    assert one_kind[-1].interval.low < -0.5 < one_kind[-1].interval.high


def test_a_slice_reads_the_columns_of_both_models() -> None:
    rows = pair().rows
    assert [int(i, 16) for i in select(rows, "score < first_score", "")["row_id"].to_pylist()] == [1]
    assert select(rows, "language == 'zh' and length(prompt) < 9 and not is_unparsed", "").num_rows == 2
    assert select(rows, "contains(target, '目标') and first_prediction == '旧'", "qa").num_rows == 2


@pytest.mark.parametrize(
    ("where", "family", "message"),
    [
        ("sore < 1", "", "`sore` is not a column; there are"),
        ("__import__('os')", "", "is not a function"),
        ("score > 1", "", "no row fulfils it"),
        ("matches(prompt, '(')", "", "--slice"),
        ("", "翻译", "no such family. There are: qa, topic"),
    ],
)
def test_a_slice_without_rows_or_meaning_is_one_line_with_what_to_do(where: str, family: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        select(pair().rows, where, family)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slow_pattern_of_a_slice_names_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.runtime import bounded_regex

    monkeypatch.setattr(bounded_regex, "TIMEOUT_SECONDS", 0.05)
    rows = pair_rows(*[table(prediction(1, "字" * 3999 + "x", 1.0))] * 2).rows
    with pytest.raises(ConfigError, match=r"--slice.*takes more than 0\.05 s"):
        select(rows, r"matches(prediction, r'(?<!q)^(?:\w|\w\w)+(?<!x)$')", "")


def test_the_largest_change_comes_first_and_equal_ones_by_row_id() -> None:
    rows = pair().rows
    assert [int(row.row_id, 16) for row in side_by_side(rows, None, 10)] == [1, 2, 4, 3]
    assert [row.outcome for row in side_by_side(rows, "lost", 10)] == ["lost"]
    assert side_by_side(rows, None, 0) == []


def test_parameters_differ_by_dotted_name_and_sources_by_their_name() -> None:
    first = {
        "finetune": {"lora": {"rank": 4}},
        "ingest": {"sources": [{"name": "qa", "path": "a"}]},
        "gate": {"alpha": 0.05},
    }
    second = {"finetune": {"lora": {"rank": 8}}, "ingest": {"sources": [{"name": "qa", "path": "b"}]}, "seed": None}
    changes = {change.name: (change.first, change.second) for change in changed_parameters(first, second)}
    assert changes == {"finetune.lora.rank": (4, 8), "ingest.sources[qa].path": ("a", "b"), "gate.alpha": (0.05, None)}
