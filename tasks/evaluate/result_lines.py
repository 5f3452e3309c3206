"""The lines that report the numbers of an evaluation in the log."""

from __future__ import annotations

from typing import Any

from tasks import paths
from tasks.base.heads import REWARD
from tasks.base.load import labels_of
from tasks.evaluate.further_scores import further_problems, further_scores
from tasks.evaluate.predictions import Row
from tasks.scoring.answer_text import normalise_answer


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


def unknown_labels(rows: list[Row]) -> list[str]:
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


def summarise_further(models: dict[str, Any]) -> list[str]:
    """A line per score of anchors, tasks of lm-eval and few-shot rows, and per problem."""
    lines = []
    for test in further_scores(models):
        scores = " · ".join(f"{role} {entry['score']:.3f}" for role, entry in test.scores.items())
        lines.append(f"evaluate: {test.name} ({test.rows} rows): {scores}")
    problems = further_problems(models["candidate"]).items()
    return [*lines, *(f"evaluate: {name} has no number for the candidate: {problem}" for name, problem in problems)]
