"""Compares base, champion and candidate on the same test rows. Run: `dvc repro evaluate`.

Writes data/predictions/<role>.parquet, data/reports/metrics.json and data/reports/plots/.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.pin import BaseRecord, read_base
from tasks.base.precision import precision_of, warn_of_emulation
from tasks.dataset.rendered import TEMPLATES, TEST, not_rendered, read_rendered, read_valid_families, speaks
from tasks.evaluate.answers import predict_answers
from tasks.evaluate.code.execution import Execution, open_execution, write_samples
from tasks.evaluate.code.report import describe_code
from tasks.evaluate.encoder import find_encoder, with_similarity
from tasks.evaluate.further_tests import FurtherResult, FurtherTests, open_tests
from tasks.evaluate.heads import predict_labels, predict_preferences
from tasks.evaluate.inference import measure_losses, open_model
from tasks.evaluate.judge.lines import judge_lines
from tasks.evaluate.judge.round import open_judging
from tasks.evaluate.latency import measure_times
from tasks.evaluate.likelihood import score_texts
from tasks.evaluate.model_size import model_size
from tasks.evaluate.models import list_models
from tasks.evaluate.perplexity import Example, examples_of, perplexity
from tasks.evaluate.plots import draw_plots
from tasks.evaluate.predictions import PREDICTIONS_SCHEMA, EvaluationTask, Row
from tasks.evaluate.probes.lines import probe_lines
from tasks.evaluate.probes.measures import ProbeResult, measure_probes
from tasks.evaluate.probes.project import open_probes, write_probes
from tasks.evaluate.report import describe_model, losses_by_family
from tasks.evaluate.result_lines import summarise, summarise_further, unknown_labels
from tasks.evaluate.served_model import describe_inference
from tasks.runtime.files import read_json, write_json, write_parquet
from tasks.runtime.progress import track
from tasks.runtime.threads import Threads
from tasks.scoring.statistics import rounded
from tasks.state.round import read_round

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.evaluate.settings import EvaluateSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelResult:
    """The predictions and losses of one model."""

    digest: str
    method: str
    """The scoring method."""
    perplexity: float | None
    """Perplexity of the validation rows, if they are text."""
    losses: dict[str, dict[str, float]]
    """Family → its validation loss (nats per token) and number of tokens."""
    rows: list[Row]
    samples: list[Row]  # sampled answers to rows with tests (SAMPLES_SCHEMA)
    facts: dict[str, Any]
    """Its size, and times and cost where they are measured."""
    server: dict[str, Any] | None
    """The facts about the server that generated its answers; None: the embedded engine did."""
    probes: ProbeResult
    further: FurtherResult


def run(config: PipelineConfig) -> None:
    """Evaluates every model of the round on every test row.

    Raises:
        DataError: rendered data or weights are missing.
        ConfigError: answers of code cannot be isolated; `evaluate.encoder` is no encoder; a rubric of the judge, or a variable that
            it needs, is missing or invalid; lm-eval or a task of it is missing.
        BaseModelError: the base cannot be loaded, the champion has another base, or the GPU's memory is not enough.
    """
    warn_of_emulation("evaluate", "evaluate.precision", config.evaluate.precision)
    encoder = None if config.evaluate.encoder is None else find_encoder(config.evaluate.encoder)
    judging = open_judging(config.evaluate)
    tests = open_tests(config.evaluate)
    record = read_base()
    form = _form()
    test = _read_test()
    execution = open_execution(config.evaluate.code, test)
    results = _evaluate_all(config.evaluate, record, form, test, execution, tests)
    further = {role: result.further for role, result in results.items()}
    further_entries = tests.describe(further)
    predictions = {role: result.rows for role, result in results.items()}
    if execution is not None:
        predictions = execution.score(predictions)
    if encoder is not None:
        predictions = with_similarity(predictions, encoder, config.evaluate.batch_rows)
    models = {
        role: {
            "weights_digest": result.digest,
            "way": result.method,
            "valid_perplexity": result.perplexity,
            "valid_losses": result.losses,
            **result.facts,
            **describe_model(predictions[role], config.evaluate),
            **result.probes.numbers,
            **describe_code(predictions[role], result.samples, config.evaluate),
            **further_entries[role],
        }
        for role, result in results.items()
    }
    reference = "champion" if "champion" in predictions else "base"
    judged = {"judge": judging.compare(predictions, reference, _questions(), record.id)} if judging else {}
    shutil.rmtree(paths.PREDICTIONS, ignore_errors=True)
    for role, rows in predictions.items():
        write_parquet(paths.PREDICTIONS / f"{role}.parquet", pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))
        write_samples(role, results[role].samples)
        write_probes(role, results[role].probes)
    tests.write(further)
    facts: dict[str, Any] = {
        "test_rows": len(predictions["candidate"]),
        "precision": precision_of(config.evaluate.precision),
        "inference": describe_inference(config.evaluate.engine, {r: each.server for r, each in results.items()}),
        **tests.facts(),
    }
    if encoder is not None:
        facts["encoder"] = encoder.entry()
    if execution is not None:
        facts["code_execution"] = execution.describe()
    write_json(paths.METRICS, {**facts, "models": models, **judged})
    draw_plots(models, predictions["candidate"], paths.MODEL / "curves.jsonl", paths.PLOTS)
    lines = [*summarise(models), *summarise_further(models), *unknown_labels(predictions["candidate"])]
    lines += [f"evaluate: candidate: {line}" for line in probe_lines(results["candidate"].probes.numbers)]
    for line in [*lines, *(f"evaluate: {line}" for line in judge_lines(judged))]:
        logger.info(line)


def _evaluate_all(
    settings: EvaluateSettings,
    record: BaseRecord,
    form: str,
    test: list[Row],
    execution: Execution | None,
    tests: FurtherTests,
) -> dict[str, ModelResult]:
    """Role → result of its model."""
    threads = Threads("evaluate")
    specs = list_models(read_round(), record, precision_of(settings.precision))
    examples, families = _valid_examples(form)
    tokenizer = load_tokenizer(paths.MODEL, generates=speaks(form))
    predict = PREDICTORS.get(form, predict_answers)
    plan = open_probes(test, form, record, tokenizer, settings)
    results = {}
    total = len(specs) * (len(test) + len(examples) + len(plan.rows) + tests.count)
    with track("evaluate", total=total, unit="answers") as progress:
        task = EvaluationTask(test, tokenizer, record.digest, settings, progress)
        for spec in specs:
            with open_model(spec, settings, threads) as model:
                losses = measure_losses(model, record.digest, examples, settings, progress)
                method, rows = predict(model, task)
                answers = predict(model, replace(task, test=plan.test))[1] if plan.rows else []
                further = tests.run(model, task)
                samples = execution.sample(model, task) if execution is not None else []
                is_timed = predict is predict_answers
                prompts = [row["prompt_ids"] for row in test] if is_timed else []
                times = measure_times(model, tokenizer, prompts, settings)
            value = perplexity(losses)
            results[spec.role] = ModelResult(
                spec.digest,
                method,
                None if value is None else rounded(value),
                losses_by_family(losses, families),
                rows,
                samples,
                {"size": model_size(spec.folder, record), **times},
                model.facts,
                measure_probes(plan, rows, answers, settings),
                further,
            )
    return results


def _valid_examples(form: str) -> tuple[list[Example], list[str]]:
    """The validation examples and their families, if the rows are text."""
    if form not in ("answers", "texts"):
        return [], []
    rendered, family_of = read_rendered("valid", form), read_valid_families()
    return examples_of(rendered), [family_of[row_id.decode()] for row_id in rendered.ids.tolist()]


PREDICTORS = {"labels": predict_labels, "texts": score_texts, "ranked": predict_preferences}
"""Form of the candidate's rows → how models are evaluated. Other forms: by generated answers."""


def _form() -> str:
    """The form of the rows that the candidate was trained on."""
    try:
        form: str = read_json(TEMPLATES)["form"]
    except FileNotFoundError as error:
        raise not_rendered(TEMPLATES) from error
    return form


def _read_test() -> list[Row]:
    try:
        rows: list[Row] = pq.read_table(TEST).to_pylist()
    except FileNotFoundError as error:
        raise not_rendered(TEST) from error
    return rows


def _questions() -> dict[str, str]:
    """Row id → the last turn of the user, of the test rows that have one."""
    return {row["row_id"]: row.get("question") or "" for row in _read_test()}
