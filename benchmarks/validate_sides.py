"""The two ways of judging the frame by the same rules, to failing row ids a rule. For validate.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from validate_frame import COLUMNS, GROUP

LONGEST = 450


def judge_with_great_expectations(path: Path) -> dict[str, list[str]]:
    """Rule → failing row ids, by built-in expectations on a pandas frame."""
    import great_expectations as gx
    import pandas as pd

    frame = pd.read_parquet(path)
    expect = gx.expectations
    named = {f"{name} is there": expect.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS}
    named |= {
        f"{name} is short": expect.ExpectColumnValueLengthsToBeBetween(column=name, max_value=LONGEST)
        for name in COLUMNS
    }
    named |= {
        f"{name} has no address": expect.ExpectColumnValuesToNotMatchRegex(column=name, regex="https?://")
        for name in COLUMNS
    }
    named["language"] = expect.ExpectColumnValuesToBeInSet(column="language", value_set=["en", "zh"])
    named["own_id"] = expect.ExpectColumnValuesToBeUnique(column="own_id")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frame").add_dataframe_asset(name="frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})
    suite = gx.ExpectationSuite(name="suite", expectations=list(named.values()))
    complete = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row_id"]}
    failed: dict[str, list[str]] = {}
    for result in batch.validate(suite, result_format=complete).results:
        column, kind = result.expectation_config.kwargs["column"], result.expectation_config.type
        rows = result.result.get("unexpected_index_list") or []
        assert not any(info.get("raised_exception") for info in [result.exception_info] if isinstance(info, dict))
        failed[_called(column, kind)] = [row["row_id"] for row in rows]
    return failed


def _called(column: str, kind: str) -> str:
    if column not in COLUMNS:
        return column
    return f"{column} {'is there' if 'null' in kind else 'is short' if 'length' in kind else 'has no address'}"


def contract() -> Any:
    """The same rules, as a contract says them. That a field is there is a rule a column too, to compare them one by one."""
    from tasks.validate.contract.contract import FamilyContract

    rules = []
    for name in COLUMNS:
        rules.append({"name": f"{name}_is_there", "expression": f"length({name}) > 0"})
        rules.append({"name": f"{name}_is_short", "expression": f"length({name}) <= {LONGEST}"})
        rules.append({"name": f"{name}_has_no_address", "field": name, "must_not_match": "https?://"})
    return FamilyContract.model_validate_json(json.dumps({"languages": ["en", "zh"], "rules": rules}))


def look_at(path: Path, group: int) -> Any:
    """What is found in a chunk of the frame: the room's own function on a record batch."""
    import pyarrow.parquet as pq

    from tasks.validate.judge import check_rules

    with pq.ParquetFile(path) as file:
        return check_rules(file.read_row_group(group, use_threads=False), contract())


def refused_rows(path: Path, group: int, reasons: list[str]) -> Any:
    """The refused rows of a chunk, whole, each with its reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = pa.array([place for place, reason in enumerate(reasons) if reason], pa.int64())
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(group, use_threads=False).take(chosen)
    return rows.append_column("reason", pa.array(reasons, pa.string()).take(chosen))


def judge_with_strop(path: Path, processes: int) -> dict[str, list[str]]:
    """The verdict and its files; rule → failing row ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.runtime.files import ParquetStream, write_parquet
    from tasks.validate.judge import decide, merge_chunks
    from tasks.validate.processes import Workers
    from tasks.validate.rules.rules import rules_of

    pa.set_cpu_count(1)
    with pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        schema = file.schema_arrow.append(pa.field("reason", pa.string()))
    workers = Workers(processes)
    found = merge_chunks(list(workers.map(look_at, ((path, group) for group in groups))), contract())
    verdict = decide(found, contract(), 1.0)
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
        code: found.row_ids.filter(pa.array(found.broken[place])).to_pylist()
        for place, code in enumerate(codes)
        if found.broken[place].any()
    }
