"""Compares base, champion and candidate on the same test rows. Run: `dvc repro evaluate`.

Writes data/predictions/<role>.parquet, data/reports/metrics.json and data/reports/plots/.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.base.heads import REWARD
from tasks.base.load import labels_of, load_tokenizer
from tasks.base.pin import BaseRecord, read_base
from tasks.base.precision import precision_of, warn_of_emulation
from tasks.dataset.rendered import TEMPLATES, TEST, not_rendered, read_rendered, read_valid_families, speaks
from tasks.evaluate.code.execution import Execution, open_execution
from tasks.evaluate.code.report import SAMPLES_SCHEMA, describe_code
from tasks.evaluate.encoder import find_encoder, with_similarity
from tasks.evaluate.heads import predict_labels, predict_preferences
from tasks.evaluate.inference import LazyModel, answer_prompts, measure_losses, open_model
from tasks.evaluate.judge.lines import judge_lines
from tasks.evaluate.judge.round import open_judging
from tasks.evaluate.latency import measure_times
from tasks.evaluate.likelihood import score_texts
from tasks.evaluate.model_size import model_size
from tasks.evaluate.models import list_models
from tasks.evaluate.perplexity import Example, examples_of, perplexity
from tasks.evaluate.plots import draw_plots
from tasks.evaluate.predictions import PREDICTIONS_SCHEMA, TOO_LONG, EvaluationTask, Row, score_rows
from tasks.evaluate.report import describe_model, losses_by_family
from tasks.evaluate.served_model import describe_inference
from tasks.runtime.files import read_json, write_json, write_parquet
from tasks.runtime.progress import track
from tasks.runtime.threads import Threads
from tasks.scoring.answer_text import normalise_answer
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


def run(config: PipelineConfig) -> None:
    """Evaluates every model of the round on every test row.

    Raises:
        DataError: rendered data or weights are missing.
        ConfigError: answers of code cannot be isolated; `evaluate.encoder` is no encoder; a rubric of the judge, or a variable that
            it needs, is missing or invalid.
        BaseModelError: the base cannot be loaded, the champion has another base, or the GPU's memory is not enough.
    """
    warn_of_emulation("evaluate", "evaluate.precision", config.evaluate.precision)
    encoder = None if config.evaluate.encoder is None else find_encoder(config.evaluate.encoder)
    judging = open_judging(config.evaluate)
    record = read_base()
    form = _form()
    test = _read_test()
    execution = open_execution(config.evaluate.code, test)
    results = _evaluate_all(config.evaluate, record, form, test, execution)
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
            **describe_code(predictions[role], result.samples, config.evaluate),
        }
        for role, result in results.items()
    }
    reference = "champion" if "champion" in predictions else "base"
    judged = {"judge": judging.compare(predictions, reference, _questions(), record.id)} if judging else {}
    shutil.rmtree(paths.PREDICTIONS, ignore_errors=True)
    for role, rows in predictions.items():
        write_parquet(paths.PREDICTIONS / f"{role}.parquet", pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))
        if samples := results[role].samples:
            path = paths.PREDICTIONS / f"{role}.code_samples.parquet"
            write_parquet(path, pa.Table.from_pylist(samples, SAMPLES_SCHEMA))
    facts: dict[str, Any] = {
        "test_rows": len(predictions["candidate"]),
        "precision": precision_of(config.evaluate.precision),
        "inference": describe_inference(config.evaluate.engine, {r: each.server for r, each in results.items()}),
    }
    if encoder is not None:
        facts["encoder"] = encoder.entry()
    if execution is not None:
        facts["code_execution"] = execution.describe()
    write_json(paths.METRICS, {**facts, "models": models, **judged})
    draw_plots(models, predictions["candidate"], paths.MODEL / "curves.jsonl", paths.PLOTS)
    lines = [*summarise(models), *_unknown_labels(predictions["candidate"])]
    for line in [*lines, *(f"evaluate: {line}" for line in judge_lines(judged))]:
        logger.info(line)


def summarise(models: dict[str, Any]) -> list[str]:
    """A line per family with the scores of all models, and a line per model with another scoring method than the candidate."""
    candidate = models["candidate"]
    lines = [
        f"evaluate: the {role} is scored by the {model['way']}, the candidate by the {candidate['way']}"
        for role, model in models.items()
        if model["way"] != candidate["way"]
    ]
    for family, measured in candidate["families"].items():
        scores = " · ".join(f"{role} {model['families'][family]['score']:.3f}" for role, model in models.items())
        lines.append(f"evaluate: {family} ({measured['rows']} rows): {scores}")
        if number := measured["degenerate"]["rows"]:
            reasons = ", ".join(f"{r} {count}" for r, count in measured["degenerate"].items() if count and r != "rows")
            lines.append(
                f"evaluate: {number} answers of the candidate to {family} are degenerate and score 0: {reasons}"
            )
        if number := measured["personal_data"]["rows"]:
            lines.append(f"evaluate: {number} answers of the candidate to {family} have personal data of their own")
    for family, measured in candidate.get("valid_losses", {}).items():
        scores = " · ".join(f"{role} {model['valid_losses'][family]['loss']:.3f}" for role, model in models.items())
        lines.append(f"evaluate: loss of {family} ({measured['tokens']:,} validation tokens): {scores}")
    return lines


def _unknown_labels(rows: list[Row]) -> list[str]:
    """A warning about test rows whose label no training row has: a classifier cannot predict it."""
    labels = labels_of(paths.MODEL)
    if labels in (None, REWARD):
        return []
    training_labels = set(map(normalise_answer, labels))
    unknown = [row["target"] for row in rows if normalise_answer(row["target"]) not in training_labels]
    if not unknown:
        return []
    return [
        f"evaluate: {len(unknown)} test rows have a label that no training row has: {', '.join(sorted(set(unknown)))}"
    ]


def _evaluate_all(
    settings: EvaluateSettings, record: BaseRecord, form: str, test: list[Row], execution: Execution | None
) -> dict[str, ModelResult]:
    """Role → result of its model."""
    threads = Threads("evaluate")
    specs = list_models(read_round(), record, precision_of(settings.precision))
    examples, families = _valid_examples(form)
    tokenizer = load_tokenizer(paths.MODEL, generates=speaks(form))
    predict = PREDICTORS.get(form, _predict_answers)
    results = {}
    with track("evaluate", total=len(specs) * (len(test) + len(examples)), unit="answers") as progress:
        task = EvaluationTask(test, tokenizer, record.digest, settings, progress)
        for spec in specs:
            with open_model(spec, settings, threads) as model:
                losses = measure_losses(model, record.digest, examples, settings, progress)
                method, rows = predict(model, task)
                samples = execution.sample(model, task) if execution is not None else []
                is_timed = predict is _predict_answers
                times = measure_times(model, tokenizer, _prompts(test), settings) if is_timed else {}
            valid_perplexity = perplexity(losses)
            valid_perplexity = None if valid_perplexity is None else rounded(valid_perplexity)
            results[spec.role] = ModelResult(
                spec.digest,
                method,
                valid_perplexity,
                losses_by_family(losses, families),
                rows,
                samples,
                {"size": model_size(spec.folder, record), **times},
                model.facts,
            )
    return results


def _valid_examples(form: str) -> tuple[list[Example], list[str]]:
    """The validation examples and their families, if the rows are text."""
    if form not in ("answers", "texts"):
        return [], []
    rendered, family_of = read_rendered("valid", form), read_valid_families()
    return examples_of(rendered), [family_of[row_id.decode()] for row_id in rendered.ids.tolist()]


def _predict_answers(model: LazyModel, task: EvaluationTask) -> tuple[str, list[Row]]:
    """Generates an answer to every prompt and scores it."""
    answers = answer_prompts(model, task.tokenizer, task.base_digest, _prompts(task.test), task.settings, task.progress)
    texts, cuts = [answer.text for answer in answers], [answer.is_cut for answer in answers]
    return "answers", score_rows(_with_long_targets(task), texts, cuts)


def _prompts(test: list[Row]) -> list[list[int]]:
    return [row["prompt_ids"] for row in test]


def _with_long_targets(task: EvaluationTask) -> list[Row]:
    """The test rows, with the key TOO_LONG: whether the target, with an end token, has more tokens than an answer may have."""
    targets = [row["target"] for row in task.test]
    ids = task.tokenizer(targets, add_special_tokens=False)["input_ids"] if targets else []
    return [
        row | {TOO_LONG: len(target) >= task.settings.max_new_tokens}
        for row, target in zip(task.test, ids, strict=True)
    ]


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
