"""Two versions compared row by row: scores by family, answers side by side, and the parameters and data that differ.

    comparison = compare(config, "v1", "candidate", where="language == 'zh'")

It explains a verdict and makes none: a slice that was chosen after its answers were read proves nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks import paths
from tasks.dataset.row_texts import with_row_texts
from tasks.errors import ConfigError, DataError, StropError
from tasks.expression.evaluate import Kind
from tasks.expression.expression import TEXT_COLUMNS, Language, parse_expression
from tasks.lineage.diff import Difference, difference
from tasks.lineage.parameters import ParameterChange, changed_parameters
from tasks.lineage.run_predictions import SEE_VERSIONS, Measures, Model, read_measures, read_pair, resolve
from tasks.lineage.version_data import NOW, commit_at
from tasks.runtime.redaction.known import redact_values
from tasks.scoring import statistics
from tasks.scoring.paired_rows import FIRST, OUTCOMES, Outcome, outcomes_of, pair_rows, scores_of
from tasks.scoring.statistics import Interval
from tasks.vcs import git
from tasks.vcs.dvc_files import parse_yaml
from tasks.vcs.dvc_outputs import dataset_version, output_hash

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

OVERALL = "overall"


@dataclass(frozen=True)
class FamilyCounts:
    family: str
    """A task family, or `overall`."""
    rows: int
    counts: dict[Outcome, int]
    difference: float | None
    """Mean score of the second minus that of the first; None for families with different metrics, whose mean has no meaning."""
    interval: Interval | None


@dataclass(frozen=True)
class SideBySide:
    """A row with the answers of both models."""

    row_id: str
    family: str
    language: str
    outcome: Outcome
    prompt: str
    target: str
    first: str
    second: str
    first_score: float
    second_score: float


@dataclass(frozen=True)
class Comparison:
    first: Model
    second: Model
    families: list[FamilyCounts]
    only_first: int
    """Test rows that only the first model was evaluated on."""
    only_second: int
    not_comparable: int
    rows: list[SideBySide]
    """In the order of their rank: the largest change of the score first."""
    parameters: list[ParameterChange] | None
    """None for a base, which has none."""
    data: Difference | None
    """None where the datasets are equal, or one of the models is a base."""
    measures: Measures
    """Robustness, bias, false answers, forgetting and few-shot scores of all test rows, also where a slice is chosen."""
    problem: str = ""
    """Why parameters or data could not be compared."""


def compare(
    config: PipelineConfig,
    first: str,
    second: str,
    *,
    where: str = "",
    family: str = "",
    show: Outcome | None = None,
    limit: int = 10,
) -> Comparison:
    """Compares two models on the test rows that both were evaluated on.

    Args:
        where: an expression over the columns of the predictions.
        family: only this family.
        show: only answers with this outcome are listed; the counts are of all rows.
        limit: most answers to list.

    Raises:
        DataError: there is no such version, it has no predictions, or no row is left.
        ConfigError: the expression is invalid.
        VersioningError: neither DVC's cache nor a remote has the predictions.
    """
    name = config.register_.model_name
    models = resolve(name, first), resolve(name, second)
    pairing = pair_rows(*read_pair(name, *models))
    if not pairing.rows.num_rows:
        what = f"have no test row in common ({pairing.only_first:,} and {pairing.only_second:,} rows)"
        fix = f"Compare versions of nearer runs ({SEE_VERSIONS[0].lower()}{SEE_VERSIONS[1:]})"
        raise DataError(what, where=" and ".join(model.label for model in models), fix=fix)
    rows = select(pairing.rows, where, family)
    parameters, data, problem = recipe_and_data(name, *models)
    return Comparison(
        *models,
        count_by_family(rows, config.gate.confidence, config.gate.bootstrap_samples, config.gate.seed),
        pairing.only_first,
        pairing.only_second,
        pairing.not_comparable,
        side_by_side(rows, show, limit),
        parameters,
        data,
        read_measures(name, *models),
        problem,
    )


def select(rows: pa.Table, where: str, family: str) -> pa.Table:
    """The rows of a family that fulfil a condition.

    Raises:
        DataError: there are none.
        ConfigError: the condition is invalid.
    """
    if family:
        families = sorted(set(rows["family"].to_pylist()))
        rows = rows.filter(pc.equal(rows["family"], family))
        if not rows.num_rows:
            raise DataError("no such family", where=f"--family {family}", fix=f"There are: {', '.join(families)}")
    if where:
        try:
            condition = parse_expression(where, language_of(rows.schema))
            rows = rows.filter(pa.array(condition.holds(with_row_texts(rows, condition.columns))))
        except (ValueError, ConfigError) as error:  # a pattern that exceeds its time limit is a ConfigError
            fix = "For example: --slice \"language == 'zh' and score < first_score\""
            what = error.what if isinstance(error, ConfigError) else str(error)
            raise ConfigError(what, where=f"--slice {where!r}", fix=fix) from error
        if not rows.num_rows:
            raise DataError("no row fulfils it", where=f"--slice {where!r}", fix="Write a wider condition")
    return rows


def language_of(schema: pa.Schema) -> Language:
    """The language of conditions over a table: its columns of texts, numbers and truths, and the fields of its rows."""
    columns: dict[str, Kind] = dict.fromkeys(TEXT_COLUMNS, "text")
    columns |= {field.name: "text" for field in schema if pa.types.is_string(field.type)}
    columns |= {field.name: "truth" for field in schema if pa.types.is_boolean(field.type)}
    numbers = [field for field in schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
    columns |= {field.name: "number" for field in numbers}
    return Language(columns, "docs/reports.md")


def count_by_family(rows: pa.Table, confidence: float, samples: int, seed: int) -> list[FamilyCounts]:
    """One entry for each family, sorted, and one for all rows."""
    outcomes, families = outcomes_of(rows), np.array(rows["family"].to_pylist(), dtype=np.str_)
    kinds = np.array(rows["kind"].to_pylist(), dtype=np.str_)
    first, second = scores_of(rows)

    def counted(name: str, chosen: NDArray[np.bool_]) -> FamilyCounts:
        counts = {outcome: int((outcomes[chosen] == outcome).sum()) for outcome in OUTCOMES}
        if name == OVERALL and len(set(kinds[chosen].tolist())) > 1:
            return FamilyCounts(name, int(chosen.sum()), counts, None, None)
        interval = statistics.difference_interval(
            first[chosen],
            second[chosen],
            confidence=confidence,
            samples=samples,
            seed=[seed, zlib.crc32(name.encode("utf-8"))],
        )
        return FamilyCounts(name, int(chosen.sum()), counts, float(np.mean(second[chosen] - first[chosen])), interval)

    by_family = [counted(name, families == name) for name in sorted(set(families.tolist()))]
    return [*by_family, counted(OVERALL, np.ones(len(families), dtype=np.bool_))]


def side_by_side(rows: pa.Table, show: Outcome | None, limit: int) -> list[SideBySide]:
    """Answers of both models: the largest change of the score first, then changed answers; rows of one rank by id."""
    outcomes = outcomes_of(rows)
    first, second = scores_of(rows)
    rank = np.array([OUTCOMES.index(outcome) for outcome in outcomes.tolist()])
    order = np.lexsort((np.arange(len(rank)), np.where(rank > 1, rank, 0), -np.abs(second - first)))
    chosen = [index for index in order.tolist() if show is None or outcomes[index] == show][: max(limit, 0)]
    return [
        SideBySide(
            row["row_id"],
            row["family"],
            row["language"],
            outcomes[index],
            row["prompt"],
            row["target"],
            row[f"{FIRST}prediction"] or "",
            row["prediction"] or "",
            row[f"{FIRST}score"],
            row["score"],
        )
        for index, row in zip(chosen, rows.take(pa.array(chosen, pa.int64())).to_pylist(), strict=True)
    ]


def recipe_and_data(
    name: str, first: Model, second: Model
) -> tuple[list[ParameterChange] | None, Difference | None, str]:
    """Parameters and data that differ. The answers are shown also where these are no longer stored."""
    if first.is_base or second.is_base:
        return None, None, ""
    try:
        parameters = changed_parameters(_params(name, first), _params(name, second))
        if _dataset(name, first) == _dataset(name, second):
            return parameters, None, ""
        before, after = (f"v{model.version}" if model.version else NOW for model in (first, second))
        return parameters, difference(name, before, after, find_other_answers=False), ""
    except StropError as error:
        return None, None, str(error)


def _params(name: str, model: Model) -> dict[str, Any]:
    """params.yaml of a version; of a candidate that is not registered, of the last run."""
    if model.version:
        content = git.read_at(commit_at(name, str(model.version)), paths.PARAMS)
    else:
        of_run = paths.WORK / paths.PARAMS
        content = (of_run if of_run.is_file() else paths.PARAMS).read_bytes()
    try:
        return dict(redact_values(parse_yaml(content or b"")))
    except ValueError as error:
        raise DataError(f"{paths.PARAMS} cannot be read ({error})", where=model.label) from error


def _dataset(name: str, model: Model) -> str | None:
    commit = commit_at(name, str(model.version)) if model.version else None
    return output_hash(paths.CURATED, commit) if commit else dataset_version()
