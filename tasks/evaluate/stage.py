"""Compares base, champion and candidate on the same test rows. Run: `dvc repro evaluate`.

Writes data/predictions/<role>.parquet, data/reports/metrics.json and data/reports/plots/.
"""

from __future__ import annotations

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
from tasks.evaluate.heads import ask_labels, ask_preferences
from tasks.evaluate.inference import Model, answer_prompts, measure_losses, one_at_a_time
from tasks.evaluate.likelihood import ask_texts
from tasks.evaluate.models import list_contenders
from tasks.evaluate.perplexity import Example, examples_of, perplexity
from tasks.evaluate.plots import draw_plots
from tasks.evaluate.predictions import Asking, Row, score_rows
from tasks.evaluate.report import describe_model, losses_by_family, rounded
from tasks.runtime.files import read_json, write_json, write_parquet
from tasks.runtime.progress import track
from tasks.runtime.threads import Threads
from tasks.scoring.answer_text import plain
from tasks.state.round import read_round

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
        ("read", pa.string()),  # what the prediction was read as (tasks/scoring/targets.py)
        ("is_unparsed", pa.bool_()),
        ("is_looping", pa.bool_()),  # it ends in a loop, and scores 0 (tasks/scoring/answer_loops.py)
        ("score", pa.float64()),
        ("exact", pa.bool_()),  # null where that cannot be said
        ("bits", pa.float64()),  # what a text costs the model; null for other kinds
        ("right", pa.int64()),  # entities or triples that are right, said and wanted; null for other kinds
        ("said", pa.int64()),
        ("wanted", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Asked:
    """A model that was asked."""

    digest: str
    way: str
    """By what it answered."""
    perplexity: float | None
    """Of the validation rows, where these are text."""
    losses: dict[str, dict[str, float]]
    """The same a family: its loss (nats a token), and over how many tokens."""
    rows: list[Row]


def run(config: PipelineConfig) -> None:
    """Every model of the round answers every test row.

    Raises:
        DataError: rendered data or weights are missing.
        BaseModelError: the base cannot be loaded, the champion has another, or a GPU's memory is not enough.
    """
    warn_of_emulation("evaluate", "evaluate.precision", config.evaluate.precision)
    record = read_base()
    form = _form()
    asked = _ask_all(config.evaluate, record, form)
    models = {
        role: {
            "weights_digest": one.digest,
            "way": one.way,
            "valid_perplexity": one.perplexity,
            "valid_losses": one.losses,
            **describe_model(one.rows, config.evaluate),
        }
        for role, one in asked.items()
    }
    predictions = {role: one.rows for role, one in asked.items()}
    shutil.rmtree(paths.PREDICTIONS, ignore_errors=True)
    for role, rows in predictions.items():
        write_parquet(paths.PREDICTIONS / f"{role}.parquet", pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))
    facts = {"test_rows": len(predictions["candidate"]), "precision": precision_of(config.evaluate.precision)}
    write_json(paths.METRICS, {**facts, "models": models})
    draw_plots(models, predictions["candidate"], paths.MODEL / "curves.jsonl", paths.PLOTS)
    for line in [*summarise(models), *_labels_never_taught(predictions["candidate"])]:
        print(line, flush=True)


def summarise(models: dict[str, Any]) -> list[str]:
    """A line a family: the models' scores side by side; and a line a model that is asked otherwise than the candidate."""
    candidate = models["candidate"]
    lines = [
        f"evaluate: the {role} answers by the {model['way']}, the candidate by the {candidate['way']}"
        for role, model in models.items()
        if model["way"] != candidate["way"]
    ]
    for family, measured in candidate["families"].items():
        told = " · ".join(f"{role} {model['families'][family]['score']:.3f}" for role, model in models.items())
        lines.append(f"evaluate: {family} ({measured['rows']} rows): {told}")
    for family, measured in candidate.get("valid_losses", {}).items():
        told = " · ".join(f"{role} {model['valid_losses'][family]['loss']:.3f}" for role, model in models.items())
        lines.append(f"evaluate: loss of {family} ({measured['tokens']:,} validation tokens): {told}")
    return lines


def _labels_never_taught(rows: list[Row]) -> list[str]:
    """Tells of test rows that a head of labels cannot get right."""
    labels = labels_of(paths.MODEL)
    if labels in (None, REWARD):
        return []
    known = set(map(plain, labels))
    strange = [row["target"] for row in rows if plain(row["target"]) not in known]
    if not strange:
        return []
    return [
        f"evaluate: {len(strange)} test rows have a label that no training row has: {', '.join(sorted(set(strange)))}"
    ]


def _ask_all(settings: EvaluateSettings, record: BaseRecord, form: str) -> dict[str, Asked]:
    """By role."""
    threads = Threads("evaluate")
    contenders = list_contenders(read_round(), record, precision_of(settings.precision))
    test = _read_test()
    examples, families = _valid_examples(form)
    tokenizer = load_tokenizer(paths.MODEL, generates=speaks(form))
    ask = WAYS.get(form, _ask_answers)
    found = {}
    with track("evaluate", total=len(contenders) * (len(test) + len(examples)), unit="answers") as progress:
        asking = Asking(test, tokenizer, record.digest, settings, progress)
        for contender in contenders:
            with one_at_a_time(contender, settings, threads) as model:
                losses = measure_losses(model, record.digest, examples, settings, progress)
                way, rows = ask(model, asking)
            value = perplexity(losses)
            value = None if value is None else rounded(value)
            found[contender.role] = Asked(contender.digest, way, value, losses_by_family(losses, families), rows)
    return found


def _valid_examples(form: str) -> tuple[list[Example], list[str]]:
    """The validation rows that are text, an example each, and its family."""
    if form not in ("answers", "texts"):
        return [], []
    rendered, family_of = read_rendered("valid", form), read_valid_families()
    return examples_of(rendered), [family_of[row_id.decode()] for row_id in rendered.ids.tolist()]


def _ask_answers(model: Model, asking: Asking) -> tuple[str, list[Row]]:
    """What it writes."""
    prompts = [row["prompt_ids"] for row in asking.test]
    answers = answer_prompts(model, asking.tokenizer, asking.base_digest, prompts, asking.settings, asking.progress)
    return "answers", score_rows(asking.test, answers)


WAYS = {"labels": ask_labels, "texts": ask_texts, "ranked": ask_preferences}
"""Form of the candidate's rows → how models are asked, where it is not by letting them answer."""


def _form() -> str:
    """The form of the rows that the candidate was taught by."""
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
