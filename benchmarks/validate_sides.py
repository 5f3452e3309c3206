"""The two validators, with the same rules; each returns the failing row ids per rule. A part of validate.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from validate_frame import COLUMNS, GROUP, OWN_COLUMNS

LONGEST = 450


def judge_with_great_expectations(path: Path) -> dict[str, list[str]]:
    """Rule → failing row ids, by built-in expectations on a pandas frame."""
    import great_expectations as gx
    import pandas as pd

    frame = pd.read_parquet(path, columns=[*OWN_COLUMNS, *COLUMNS])
    expect = gx.expectations
    expectations = {f"{name} is there": expect.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS}
    expectations |= {
        f"{name} is short": expect.ExpectColumnValueLengthsToBeBetween(column=name, max_value=LONGEST)
        for name in COLUMNS
    }
    expectations |= {
        f"{name} has no address": expect.ExpectColumnValuesToNotMatchRegex(column=name, regex="https?://")
        for name in COLUMNS
    }
    expectations["language"] = expect.ExpectColumnValuesToBeInSet(column="language", value_set=["en", "zh"])
    expectations["own_id"] = expect.ExpectColumnValuesToBeUnique(column="own_id")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frame").add_dataframe_asset(name="frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})
    suite = gx.ExpectationSuite(name="suite", expectations=list(expectations.values()))
    complete = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row_id"]}
    failed: dict[str, list[str]] = {}
    for result in batch.validate(suite, result_format=complete).results:
        column, kind = result.expectation_config.kwargs["column"], result.expectation_config.type
        rows = result.result.get("unexpected_index_list") or []
        assert not any(info.get("raised_exception") for info in [result.exception_info] if isinstance(info, dict))
        failed[_rule_name(column, kind)] = [row["row_id"] for row in rows]
    return failed


def _rule_name(column: str, kind: str) -> str:
    if column not in COLUMNS:
        return column
    return f"{column} {'is there' if 'null' in kind else 'is short' if 'length' in kind else 'has no address'}"


def contract() -> Any:
    """The same rules as a contract. Presence of a field is one rule per column, too, so that rules can be compared one by one."""
    from tasks.validate.contract.contract import FamilyContract

    rules = []
    for name in COLUMNS:
        rules.append({"name": f"{name}_is_there", "expression": f"length({name}) > 0"})
        rules.append({"name": f"{name}_is_short", "expression": f"length({name}) <= {LONGEST}"})
        rules.append({"name": f"{name}_has_no_address", "field": name, "must_not_match": "https?://"})
    return FamilyContract.model_validate_json(json.dumps({"languages": ["en", "zh"], "rules": rules}))


def check_chunk(path: Path, group: int) -> Any:
    """Checks a chunk of the frame with the function of `validate`, on a record batch."""
    import pyarrow.parquet as pq

    from tasks.validate.judge import check_rules

    with pq.ParquetFile(path) as file:
        return check_rules(file.read_row_group(group, use_threads=False), contract())


def refused_rows(path: Path, group: int, reasons: list[str]) -> Any:
    """The refused rows of a chunk with all columns, each with its reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = pa.array([index for index, reason in enumerate(reasons) if reason], pa.int64())
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(group, use_threads=False).take(chosen)
    return rows.append_column("reason", pa.array(reasons, pa.string()).take(chosen))


def judge_with_strop(path: Path, processes: int) -> dict[str, list[str]]:
    """Writes the accepted and the quarantined rows; returns rule → failing row ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.runtime.files import ParquetStream, write_parquet
    from tasks.runtime.spawned_workers import Workers
    from tasks.validate.judge import decide, merge_chunks
    from tasks.validate.rules.rules import rules_of

    pa.set_cpu_count(1)
    with pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        schema = file.schema_arrow.append(pa.field("reason", pa.string()))
    workers = Workers(processes, "validate")
    results = merge_chunks(list(workers.map(check_chunk, ((path, group) for group in groups))), contract())
    verdict = decide(results, contract(), 1.0)
    write_parquet(path.with_name("accepted.parquet"), verdict.accepted)

    def refused() -> Iterator[tuple[Path, int, list[str]]]:
        for group in groups:
            yield path, group, verdict.reasons[group * GROUP : (group + 1) * GROUP]

    with ParquetStream(path.with_name("quarantined.parquet"), schema) as stream:
        for rows in workers.map(refused_rows, refused()):
            stream.write(rows)
    workers.close()
    codes = [rule.code for rule in rules_of(contract())]
    return {
        code: results.row_ids.filter(pa.array(results.broken[index])).to_pylist()
        for index, code in enumerate(codes)
        if results.broken[index].any()
    }
