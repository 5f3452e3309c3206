"""The contract as a Great Expectations suite, and its Data Docs. Only this module and context.py import the library.

Each expectation calls the predicate of its rule (`rules.py`), so that Data Docs and row verdicts cannot differ; `check_batch`
compares their counts all the same. An expectation that raises is a bug of Strop, never bad data.

Great Expectations needs the whole batch as one pandas frame, which is too large for a large batch, and a sample would show other
numbers than the verdict. So a batch of one chunk is passed as it is, and each expectation calls its predicate on it. For a larger
batch the frame has no text (`recorded_frame`): for every record and rule, it holds the predicate's result from the verdict. The
expectations and their row counts are the same.
"""

from __future__ import annotations

import html
import json
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
from great_expectations import exceptions as gx_exceptions
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import MulticolumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import MulticolumnMapMetricProvider
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import (
    multicolumn_condition_partial,
)

from tasks import paths
from tasks.errors import DataError, one_line
from tasks.runtime.files import write_json
from tasks.runtime.visible_text import printable
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.gx.context import SITE, open_context, quiet
from tasks.validate.judge import Facts, RuleResults
from tasks.validate.rules.rules import Rule, rules_of, sentence_of

RECORDED = "keeps_"
"""Prefix of a rule's code: the column of its predicate's results."""


def follows(frame: pd.DataFrame, code: str, contract: FamilyContract) -> pd.Series[bool]:
    """(records,) does it keep the rule? By the rule's predicate, or by its recorded result."""
    if RECORDED + code in frame.columns:
        return frame[RECORDED + code]
    rule = next(rule for rule in rules_of(contract) if rule.code == code)
    texts = {name: pa.array(frame[name], pa.string(), from_pandas=True) for name in frame.columns}
    return pd.Series(rule.is_good(pa.table(texts), contract), index=frame.index)


class RowsFollowRule(MulticolumnMapMetricProvider):  # type: ignore[misc]
    """The Great Expectations metric of a rule."""

    condition_metric_name = "multicolumn_values.follow_rule"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")
    condition_value_keys = ("rule", "bounds")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, frame: pd.DataFrame, rule: str, bounds: str, **_: Any) -> pd.Series[bool]:
        return follows(frame, rule, FamilyContract.model_validate_json(bounds))


class ExpectRowsToFollowRule(MulticolumnMapExpectation):  # type: ignore[misc]
    """Expect every row to follow a rule of data/contract/."""

    rule: str
    bounds: str
    """The family's contract, as JSON."""
    ignore_row_if: str = "never"

    map_metric = "multicolumn_values.follow_rule"
    success_keys: ClassVar[tuple[str, ...]] = ("rule", "bounds", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column_list", "rule", "bounds")


def check_batch(
    frame: pd.DataFrame, contract: FamilyContract, facts: Facts, family: str, max_refused_share: float
) -> None:
    """Runs the suite on a judged batch and stores the result for Data Docs.

    Raises:
        DataError: an expectation raised, or counts other rows than the verdict: a bug of Strop.
    """
    with quiet():
        result = _validate(frame, contract, facts, family, max_refused_share)
    for expectation in result["results"]:
        raise_if_broken(expectation, facts)
        rule = expectation["expectation_config"]["kwargs"].get("rule")
        count = expectation["result"].get("unexpected_count")
        if rule is not None and count != facts.broken[rule]:
            counts = f"{count} rows where the verdict has {facts.broken[rule]}"
            raise _bug(f"check `{rule}` counts {counts}; this is a bug of Strop", facts)


def raise_if_broken(result: Any, facts: Facts) -> None:
    """Raises if the expectation itself raised: its result is `success: false` then, just as for bad data."""
    info = result["exception_info"] or {}
    raised = [info] if "raised_exception" in info else list(info.values())
    for entry in raised:
        if entry.get("raised_exception"):
            name = result["expectation_config"]["kwargs"].get("rule", result["expectation_config"]["type"])
            lines = str(entry.get("exception_message", "")).strip().splitlines()
            why = lines[-1] if lines else "no message"
            raise _bug(f"check `{name}` raised ({why}); this is a bug of Strop, not bad data", facts)


def _bug(what: str, facts: Facts) -> DataError:
    return DataError(what, where=f"batch {facts.batch}", fix="Please report it with the batch")


def build_docs() -> str | None:
    """Builds data/docs/ from all stored results; returns an error message, or None."""
    try:
        with quiet():
            open_context().build_data_docs(site_names=[SITE])
    except (OSError, gx_exceptions.GreatExpectationsError) as error:
        return f"Data Docs could not be built: {one_line(error)}"
    return None


def rows_frame(table: pa.Table) -> pd.DataFrame:
    """Records (RECORD_SCHEMA) as a frame for Great Expectations, with their text."""
    # dtype object: pandas' string type would convert every cell to arrow and back
    return pd.DataFrame(table.to_pydict(), dtype=object)


def recorded_frame(results: RuleResults, contract: FamilyContract) -> pd.DataFrame:
    """The records of a large batch without their text: row id, and for each rule whether the record keeps it."""
    columns = {RECORDED + rule.code: ~results.broken[number] for number, rule in enumerate(rules_of(contract))}
    return pd.DataFrame({"row_id": results.row_ids.to_pandas(), **columns})


def suite_of(contract: FamilyContract, family: str, max_refused_share: float, is_recorded: bool = False) -> Any:
    """The family's suite: one expectation per rule, the least number of rows, and the bound on refused ones. `is_recorded`: it is
    for a `recorded_frame`, which has other columns."""
    import great_expectations as gx

    bounds = json.dumps(contract.model_dump(mode="json"), ensure_ascii=False)
    expectations: list[Any] = [
        ExpectRowsToFollowRule(
            column_list=_domain_of(rule, is_recorded),
            rule=rule.code,
            bounds=bounds,
            # the page renders a description as HTML, and a suggested contract holds labels of rows
            description=html.escape(printable(f"{rule.code}: {sentence_of(rule, contract)}"), quote=False),
        )
        for rule in rules_of(contract)
    ]
    expectations.append(
        gx.expectations.ExpectTableRowCountToBeBetween(
            min_value=contract.min_batch_rows,
            description=f"too_few_rows: The batch has at least {contract.min_batch_rows} rows",
        )
    )
    expectations.append(
        gx.expectations.ExpectColumnMaxToBeBetween(
            column="refused_share",
            max_value=max_refused_share,
            description=f"batch_set_aside: At most {max_refused_share:.0%} of the rows are refused",
        )
    )
    name = f"{family} (large batches)" if is_recorded else family
    return gx.ExpectationSuite(name=name, expectations=expectations)


def _domain_of(rule: Rule, is_recorded: bool) -> list[str]:
    """The columns of a rule; Great Expectations needs at least two, and the row id identifies rows in Data Docs."""
    return [*([RECORDED + rule.code] if is_recorded else rule.columns), "row_id"]


def _validate(
    frame: pd.DataFrame, contract: FamilyContract, facts: Facts, family: str, max_refused_share: float
) -> Any:
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier

    context = open_context()
    is_recorded = "problem" not in frame.columns
    suite = context.suites.add_or_update(suite_of(contract, family, max_refused_share, is_recorded))
    source = context.data_sources.add_or_update_pandas(facts.source)
    asset = source.add_dataframe_asset(name=facts.batch)
    whole = asset.add_batch_definition_whole_dataframe("whole")
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=f"{facts.source}-{facts.batch}", data=whole, suite=suite)
    )
    judged = frame.assign(refused_share=facts.refused_share)
    name = f"{facts.source}-{facts.batch}"
    result = definition.run(
        batch_parameters={"dataframe": judged},
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": 5},
        run_id=RunIdentifier(run_name=name),
    )
    for path in paths.GREAT_EXPECTATIONS.glob(f"**/validations/**/{name}/**/*.json"):
        content = json.loads(path.read_bytes())
        for expectation in content["results"]:
            expectation["result"] = _as_text(expectation["result"])
        write_json(path, content)
    return result


def _as_text(value: Any) -> Any:
    """A result with its row values escaped: Data Docs would render them as HTML."""
    if isinstance(value, str):
        return html.escape(printable(value), quote=False)
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list) else value
