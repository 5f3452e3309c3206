"""Room `render`: caps, weights and the bound on synthetic rows."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.render.balance import Mix
from tasks.render.settings import BalanceRule

PORTION = 300
ROWS = pa.table(
    {
        "row_id": [f"{i:032x}" for i in range(1000)],
        "source": ["forum" if i % 4 else "support" for i in range(1000)],
        "family": ["topic" if i < 600 else "qa" for i in range(1000)],
        "output": [("sport", "体育", "tech")[i % 3] if i < 600 else f"answer {i}" for i in range(1000)],
        "synthetic": ["paraphrase" if i % 2 else "" for i in range(1000)],
    }
)


def mix(*rules: dict[str, Any], max_synthetic_share: float = 1.0) -> tuple[list[int], dict[str, int]]:
    result = Mix([BalanceRule(**rule) for rule in rules], max_synthetic_share)
    for first in range(0, ROWS.num_rows, PORTION):
        result.add(ROWS.slice(first, PORTION))
    times, left_out = result.times()
    return np.repeat(np.arange(ROWS.num_rows), 1 if times is None else times).tolist(), left_out


def test_without_rules_every_row_is_taken_once() -> None:
    assert mix() == (list(range(1000)), {})


def test_a_cap_takes_as_many_and_the_same_ones_when_it_grows() -> None:
    few, left_out = mix({"family": "topic", "label": "体育", "max_rows": 50})
    more, _ = mix({"family": "topic", "label": "体育", "max_rows": 80})
    labels = ROWS["output"].to_pylist()
    assert sum(labels[place] == "体育" for place in few) == 50
    assert set(few) <= set(more)
    assert left_out == {"family topic, label 体育: max_rows 50": 150}


def test_each_label_is_capped_on_its_own() -> None:
    places, _ = mix({"family": "topic", "each": ("label",), "max_rows": 40})
    labels = ROWS["output"].to_pylist()
    assert Counter(labels[place] for place in places if place < 600) == {"sport": 40, "体育": 40, "tech": 40}
    assert sum(place >= 600 for place in places) == 400


def test_no_answer_is_kept_to_count_it() -> None:
    result = Mix([BalanceRule(each=("label",), max_rows=5)], 1.0)
    tracemalloc.start()
    result.add(ROWS.set_column(3, "output", pa.array([f"{n} " * 2_000 for n in range(ROWS.num_rows)])))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000_000, "8 MB of answers"
    assert result.times() == (None, {})


@pytest.mark.parametrize(("weight", "least", "most"), [(0.5, 100, 150), (2.0, 500, 500), (2.5, 600, 650), (0.0, 0, 0)])
def test_a_weight_sets_how_often_rows_are_taken(weight: float, least: int, most: int) -> None:
    places, _ = mix({"source": "support", "weight": weight})
    assert least <= sum(place % 4 == 0 for place in places) <= most
    assert sum(place % 4 != 0 for place in places) == 750


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5])
def test_made_rows_stay_under_their_share(share: float) -> None:
    places, left_out = mix({"family": "qa", "weight": 3.0}, max_synthetic_share=share)
    made = sum(place % 2 for place in places)
    assert made / len(places) <= share + 1e-9
    assert made / len(places) >= share - 0.01
    assert sum(place % 2 == 0 for place in places) == 300 + 3 * 200
    assert share == 0.5 or left_out["synthetic_share"] > 0


def test_a_rule_with_no_effect_or_two_is_an_error() -> None:
    for rule in ({}, {"max_rows": 3, "weight": 2.0}):
        with pytest.raises(ValidationError, match="either max_rows or weight"):
            BalanceRule(**rule)
