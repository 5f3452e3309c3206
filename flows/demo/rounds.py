"""Three rounds that show Strop's purpose: a model, a better model, and a bad batch that the gate stops.

Round 1 has three of the five news sections. Round 2's batch has the other two, and its model is promoted because it is
significantly better on the present test set. Round 3's batch is bad and large, like a broken export: a tenth of its rows is
malformed, and the labels of the others are shuffled. Its own test rows are useless; the earlier test rows detect the regression.
The gate refuses the model; the batch is excluded; the data are again those of version 2.
"""

from __future__ import annotations

import itertools
import os
import random
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.rule import Rule

from flows.demo.data import Record, news_articles, write_records
from flows.outcome import Outcome
from tasks.config import load_config
from tasks.errors import StropError
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.state.decisions import excluded_batches, read_decisions, record_decision
from tasks.state.manifest import read_manifest

Show = Callable[[RenderableType], None]
"""Prints a result."""
FIRST_SECTIONS = ("business", "entertainment", "politics")
SIZES = (150, 100, 900)
"""Articles per round."""


@dataclass(frozen=True)
class Round:
    title: str
    file: str
    records: Callable[[], list[Record]]
    expected: str
    """The outcome of the round; with another one the demo fails."""


def run_and_report(show: Show) -> Outcome:
    """One run in the current project, and its summary."""
    from flows.run_once import run_once

    outcome = run_once()
    if outcome.kind == "nothing_new":
        show(f"[bold]{outcome.message}[/]")
        return outcome
    from flows.report.summary import read_summary
    from flows.report.terminal import summary_page

    show(summary_page(read_summary(load_config()), outcome))
    show(
        f"[dim]These commands work in the demo's own project:[/] cd {os.path.relpath(Path.cwd(), os.environ.get('PWD', '/'))}"
    )
    return outcome


def rounds() -> list[Round]:
    articles = news_articles()
    first = [a for a in articles if a["label"] in FIRST_SECTIONS]
    other = [a for a in articles if a["label"] not in FIRST_SECTIONS]
    used = {a["text"] for a in [*first[: SIZES[0]], *other[: SIZES[1]]]}
    fresh = [a for a in articles if a["text"] not in used][: SIZES[2]]
    return [
        Round("three of the five news sections", "bbc-1.jsonl", lambda: first[: SIZES[0]], "promoted"),
        Round("a new batch brings the other two sections", "bbc-2.jsonl", lambda: other[: SIZES[1]], "promoted"),
        Round("a bad batch: rows malformed, labels shuffled", "bbc-3.jsonl", lambda: spoil(fresh), "refused"),
    ]


def spoil(records: list[Record], seed: int = 17) -> list[Record]:
    """The batch of a broken export: every tenth row is malformed, and the labels of the others are shuffled, so that no row keeps
    its label."""
    labels = shuffled_labels([record["label"] for record in records], seed)
    spoiled = [{"text": record["text"], "label": label} for record, label in zip(records, labels, strict=True)]
    damages: Iterator[Callable[[Record], Record]] = itertools.cycle(
        (
            lambda record: {**record, "text": " "},
            lambda record: {"text": record["text"]},  # without a label
            lambda record: {**record, "text": record["text"].replace("e", "\ufffd")},
        )
    )
    return [next(damages)(record) if number % 10 == 0 else record for number, record in enumerate(spoiled)]


def shuffled_labels(labels: list[str], seed: int) -> list[str]:
    """The labels in a random order in which every position has another label than before.

    Possible if no label is at more than half of the positions.
    """
    generator = random.Random(seed)
    shuffled = generator.sample(labels, len(labels))
    while unchanged := [index for index, label in enumerate(labels) if shuffled[index] == label]:
        for index in unchanged:
            other = generator.randrange(len(labels))
            if shuffled[other] != labels[index] and shuffled[index] != labels[other]:
                shuffled[index], shuffled[other] = shuffled[other], shuffled[index]
    return shuffled


def run_rounds(count: int, show: Show) -> int:
    """Runs the first `count` rounds in the current project, and the exclusion after the third; skips finished rounds.

    Raises:
        StropError: a round had an unexpected outcome.
    """
    judged = sum(entry.kind == "judged" for entry in read_ledger(_model()))
    for number, round_ in enumerate(rounds()[:count], start=1):
        if number <= judged:
            show(f"[dim]Round {number} was run before: {round_.title}.[/]")
            continue
        show(Rule(f"[bold]Round {number} of {count}: {round_.title}[/]", style="magenta"))
        write_records(Path("inbox") / round_.file, round_.records())
        outcome = run_and_report(show)
        if outcome.kind != round_.expected:
            raise StropError(
                f"round {number} ended as {outcome.kind!r}, not as {round_.expected!r}",
                where=str(Path.cwd()),
                fix="See its summary above",
            )
    return _exclude_bad_batch(show) if count == len(rounds()) else 0


def _model() -> str:
    return load_config().register_.model_name


def _exclude_bad_batch(show: Show) -> int:
    """Follows the summary's advice: excludes round 3's batch; the next run trains nothing and returns to version 2's data."""
    from tasks.vcs.dvc_outputs import dataset_version

    batch = read_manifest()[-1].batch
    if batch not in excluded_batches(read_decisions()):
        show(Rule("[bold]Afterwards: the bad batch is excluded[/]", style="magenta"))
        command = ["data", "exclude", batch, "--why", "labels shuffled"]
        show(f"$ strop {shlex.join(command)}")
        record_decision("exclude", batch, "labels shuffled")
        show(f"Batch {batch} is excluded. Apply this: [bold]strop run[/]")
    run_and_report(show)
    champion = champion_of(read_ledger(_model()))
    if champion is None or dataset_version() != champion.dataset:
        raise StropError("the dataset is not the champion's", where=str(Path.cwd()), fix="See: strop data versions")
    show(f"The dataset is again {champion.dataset}, the data of version {champion.version}.")
    return 0
