"""Compares base, champion and candidate on the same test rows. Run: `dvc repro evaluate`.

Writes data/predictions/<role>.parquet, data/reports/metrics.json and data/reports/plots/.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.resolve import BaseRecord, read_base
from tasks.errors import DataError
from tasks.evaluate.answering import answer_prompts, measure_losses, one_at_a_time
from tasks.evaluate.contenders import list_contenders
from tasks.evaluate.perplexity import examples_of, perplexity
from tasks.evaluate.plots import draw_plots
from tasks.evaluate.report import Row, describe_model, rounded, score_rows
from tasks.files import write_json, write_parquet
from tasks.progress import track
from tasks.rendered import TEST, read_rendered
from tasks.round import read_round

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.evaluate.settings import EvaluateSettings

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("batch", pa.string()),
        ("family", pa.string()),
        ("kind", pa.string()),
        ("language", pa.string()),
        ("prompt", pa.string()),
        ("target", pa.string()),
        ("prediction", pa.string()),
        ("read", pa.string()),  # what the prediction was read as (tasks/targets.py)
        ("is_unparsed", pa.bool_()),
        ("score", pa.float64()),
        ("exact", pa.bool_()),
        ("right", pa.int64()),  # entities or triples that are right, said and wanted; null for other kinds
        ("said", pa.int64()),
        ("wanted", pa.int64()),
    ]
)


def run(config: PipelineConfig) -> None:
    """Every model of the round answers every test row.

    Raises:
        DataError: rendered data or weights are missing.
        BaseModelError: the base cannot be loaded, the champion has another, or a GPU's memory is not enough.
    """
    record = read_base()
    predictions, perplexities, digests = _ask_all(config.evaluate, record)
    models = {
        role: {
            "weights_digest": digests[role],
            "valid_perplexity": perplexities[role],
            **describe_model(rows, config.evaluate),
        }
        for role, rows in predictions.items()
    }
    shutil.rmtree(paths.PREDICTIONS, ignore_errors=True)
    for role, rows in predictions.items():
        write_parquet(paths.PREDICTIONS / f"{role}.parquet", pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))
    write_json(paths.METRICS, {"test_rows": len(predictions["candidate"]), "models": models})
    draw_plots(models, predictions["candidate"], paths.MODEL / "curves.jsonl", paths.PLOTS)
    for line in summarise(models):
        print(line, flush=True)


def summarise(models: dict[str, Any]) -> list[str]:
    """A line a family: the models' scores side by side."""
    candidate = models["candidate"]
    lines = []
    for family, measured in candidate["families"].items():
        told = " · ".join(f"{role} {model['families'][family]['score']:.3f}" for role, model in models.items())
        lines.append(f"evaluate: {family} ({measured['rows']} rows): {told}")
    return lines


def _ask_all(
    settings: EvaluateSettings, record: BaseRecord
) -> tuple[dict[str, list[Row]], dict[str, float | None], dict[str, str]]:
    """By role: predictions, validation perplexity and weights digest."""
    contenders = list_contenders(read_round(), record, settings.precision)
    test = _read_test()
    prompts = [row["prompt_ids"] for row in test]
    examples = examples_of(read_rendered("valid"))
    tokenizer = load_tokenizer(paths.MODEL)
    predictions: dict[str, list[Row]] = {}
    perplexities: dict[str, float | None] = {}
    with track("evaluate", total=len(contenders) * (len(test) + len(examples)), unit="rows") as progress:
        for contender in contenders:
            with one_at_a_time(contender, settings) as model:
                losses = measure_losses(model, record.digest, examples, settings, progress)
                answers = answer_prompts(model, tokenizer, record.digest, prompts, settings, progress)
            value = perplexity(losses)
            perplexities[contender.role] = None if value is None else rounded(value)
            predictions[contender.role] = score_rows(test, answers)
    return predictions, perplexities, {contender.role: contender.digest for contender in contenders}


def _read_test() -> list[Row]:
    try:
        rows: list[Row] = pq.read_table(TEST).to_pylist()
    except FileNotFoundError as error:
        raise DataError("not found", where=str(TEST), fix="Make it: dvc repro render") from error
    return rows
