"""Each built-in rule refuses the rows that Great Expectations' own expectation fails, on the same frame."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.records.parse import RECORD_SCHEMA
from tasks.records.row import NO_TEXT
from tasks.records.segmentation import segment
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.judge import check_rules, merge_chunks
from tasks.validate.measures.mojibake import mojibake_runs, replacement_characters
from tasks.validate.measures.script import letters_in
from tasks.validate.rules.rules import PROBLEMS_WITH_RULES, rules_of

CONTRACT = FamilyContract.model_validate_json("""{
  "required_fields": ["system", "input"], "min_input_segments": 2, "max_input_segments": 5, "min_output_segments": 1,
  "max_output_segments": 4, "min_input_characters": 3, "max_input_characters": 12, "min_output_characters": 2,
  "max_output_characters": 9, "languages": ["zh"], "labels": ["sport", "体育", "a b"], "max_label_characters": 5,
  "scripts": {"en": {"script": "Latin", "min_share": 0.5}, "zh": {"script": "Han", "min_share": 0.3}},
  "min_letters_for_script": 3,
  "rules": [
    {"name": "must", "field": "output", "must_match": "[aeiou体]"},
    {"name": "must_not", "field": "input", "must_not_match": "https?://|字{2}"},
    {"name": "short_answer", "expression": "length(output) <= 2 * length(input)"}
  ]
}""")
PROBLEMS = ("not_parsed", "not_an_object", "missing_field", "wrong_type", "unknown_role", "role_order", "missing_image")

TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\u3000\n",
            "sport",
            " 体育 ",
            "a b",
            "http://x",
            "字字字",
            "it â€™s",
            "a\ufffd",
            "Привет",
            "浣犲ソ涓栫晫",
        ]
    ),
    st.text(st.sampled_from("aeb1 ’.，字体育é\u3000\x1c\x85Жл"), max_size=14),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "system": TEXTS, "instruction": TEXTS, "input": TEXTS, "output": TEXTS, "rejected": TEXTS,
            "tools": TEXTS, "language": st.sampled_from(["en", "zh"]),
            "own_id": st.sampled_from([None, "1", "2", "甲"]),
            "problem": st.sampled_from(["", "", "", "", "encoding_damage", *PROBLEMS]),
        }
    ),
    min_size=1, max_size=12,
)  # fmt: skip


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Records as parsing leaves them: without text where they are no rows."""
    empty = dict.fromkeys(RECORD_SCHEMA.names)
    lines = []
    for place, row in enumerate(rows):
        text = NO_TEXT | {"own_id": None} if row["problem"] else {"history": "[]"}
        lines.append({**empty, **row, "row_id": f"row {place}", **text})
    return pa.Table.from_pylist(lines, RECORD_SCHEMA)


def broken_by_ours(table: pa.Table) -> dict[str, set[str]]:
    result = merge_chunks(
        [check_rules(table.slice(first, 3), CONTRACT) for first in range(0, table.num_rows, 3)], CONTRACT
    )
    ids = result.row_ids.to_pylist()
    rules = [rule.code for rule in rules_of(CONTRACT)]
    return {
        code: {row_id for row_id, bad in zip(ids, result.broken[place], strict=True) if bad}
        for place, code in enumerate(rules)
    }


def measured(table: pa.Table) -> pd.DataFrame:
    """The rows, with plain Python's measures as columns beside them."""
    frame = pd.DataFrame(table.to_pylist(), columns=table.schema.names, dtype=object)
    prompt = frame["instruction"] + "\n" + frame["input"]
    for name, texts in (("prompt", prompt), ("output", frame["output"])):
        frame[f"{name}_stripped"] = [text.strip() for text in texts]
        frame[f"{name}_segments"] = [len(segment(text)) or int(bool(text.strip())) for text in texts]
    for name in ("system", "input"):
        frame[f"{name}_stripped"] = [text.strip() for text in frame[name]]
    fields = ("system", "history", "instruction", "input", "output", "rejected", "tools")
    wholes = ["\n".join(row) for row in zip(*(frame[name] for name in fields), strict=True)]
    frame["lost"] = [replacement_characters(text) for text in wholes]
    frame["misread"] = [mojibake_runs(text) for text in wholes]
    frame["twice_the_input"] = [2 * len(text) for text in frame["input"]]
    frame["output_length"] = [len(text) for text in frame["output"]]
    scripts = [CONTRACT.scripts[language] for language in frame["language"]]
    frame["least_share"] = [script.min_share for script in scripts]
    frame["share"] = [
        _share([letters_in(text, script.script) for text in texts])
        for script, *texts in zip(scripts, prompt, frame["output"], strict=True)
    ]
    return frame


def _share(there: list[tuple[int, int]]) -> float:
    if sum(letters for letters, _ in there) < CONTRACT.min_letters_for_script:
        return 1.0
    return max((inside / letters for letters, inside in there if letters), default=1.0)


def expectations() -> dict[str, list[Any]]:
    """Rule → Great Expectations' own, of rows; those of `problem` look at all records."""
    from great_expectations import expectations as gx

    length = gx.ExpectColumnValueLengthsToBeBetween
    number = gx.ExpectColumnValuesToBeBetween
    return {
        "empty_output": [length(column="output_stripped", min_value=1)],
        "empty_field": [length(column=f"{name}_stripped", min_value=1) for name in ("system", "input")],
        "encoding_damage": [number(column=name, max_value=0) for name in ("lost", "misread")],
        "input_too_short": [number(column="prompt_segments", min_value=2)],
        "input_too_long": [number(column="prompt_segments", max_value=5)],
        "output_too_short": [number(column="output_segments", min_value=1)],
        "output_too_long": [number(column="output_segments", max_value=4)],
        "input_few_characters": [length(column="prompt_stripped", min_value=3)],
        "input_many_characters": [length(column="prompt_stripped", max_value=12)],
        "output_few_characters": [length(column="output_stripped", min_value=2)],
        "output_many_characters": [length(column="output_stripped", max_value=9)],
        "language_not_allowed": [gx.ExpectColumnValuesToBeInSet(column="language", value_set=["zh"])],
        "language_script": [
            gx.ExpectColumnPairValuesAToBeGreaterThanB(column_A="share", column_B="least_share", or_equal=True)
        ],
        "label_too_long": [length(column="output_stripped", max_value=5)],
        "label_not_allowed": [
            gx.ExpectColumnValuesToBeInSet(column="output_stripped", value_set=list(CONTRACT.labels or ()))
        ],
        "duplicate_id": [gx.ExpectColumnValuesToBeUnique(column="own_id")],
        "must": [gx.ExpectColumnValuesToMatchRegex(column="output", regex="[aeiou体]")],
        "must_not": [gx.ExpectColumnValuesToNotMatchRegex(column="input", regex="https?://|字{2}")],
        "short_answer": [
            gx.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="twice_the_input", column_B="output_length", or_equal=True
            )
        ],
    }


def expectations_of_problems() -> dict[str, list[Any]]:
    from great_expectations import expectations as gx

    codes = [code for code in PROBLEMS_WITH_RULES if code != "encoding_damage"]
    result = {
        code: [gx.ExpectColumnValuesToNotBeInSet(column="problem", value_set=[code])] for code in (*codes, "damage")
    }
    result["damage"] = [gx.ExpectColumnValuesToNotBeInSet(column="problem", value_set=["encoding_damage"])]
    return result | {"no_row": [gx.ExpectColumnValuesToBeInSet(column="problem", value_set=["", *PROBLEMS_WITH_RULES])]}


@pytest.fixture(scope="module")
def great_expectations() -> Any:
    """Frame × expectations → rule → ids of the rows that Great Expectations calls bad."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset(name="frame")
    whole = asset.add_batch_definition_whole_dataframe("whole")
    complete = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row_id"]}

    def broken(frame: pd.DataFrame, expected: dict[str, list[Any]]) -> dict[str, set[str]]:
        batch = whole.get_batch(batch_parameters={"dataframe": frame})
        results: dict[str, set[str]] = {}
        for code, each in expected.items():
            results[code] = set()
            for expectation in each:
                result = batch.validate(expectation, result_format=complete)
                assert not result.exception_info.get("raised_exception"), (code, result.exception_info)
                results[code] |= {row["row_id"] for row in result.result["unexpected_index_list"] or []}
        return results

    return broken


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS)
def test_the_same_rows_are_bad(rows: list[dict[str, Any]], great_expectations: Any) -> None:
    table = table_of(rows)
    ours = broken_by_ours(table)
    records = measured(table)
    theirs = great_expectations(records, expectations_of_problems())
    became_rows = records[records["problem"] == ""]
    if len(became_rows):
        of_rows = great_expectations(became_rows, expectations())
        first = set(became_rows.loc[~became_rows["own_id"].duplicated(), "row_id"])
        of_rows["duplicate_id"] -= first  # Great Expectations calls all of them bad, we those after the first
        theirs |= of_rows
    else:
        theirs |= {code: set() for code in expectations()}
    theirs["encoding_damage"] |= theirs.pop("damage")
    assert ours == theirs
