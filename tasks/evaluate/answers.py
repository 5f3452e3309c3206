"""Rows that a model answers with generated text, and their scores."""

from __future__ import annotations

from tasks.evaluate.inference import LazyModel, answer_prompts
from tasks.evaluate.predictions import TOO_LONG, EvaluationTask, Row, score_rows


def predict_answers(model: LazyModel, task: EvaluationTask) -> tuple[str, list[Row]]:
    """Generates an answer to every prompt and scores it."""
    prompts = [row["prompt_ids"] for row in task.test]
    answers = answer_prompts(model, task.tokenizer, task.base_digest, prompts, task.settings, task.progress)
    texts, cuts = [answer.text for answer in answers], [answer.is_cut for answer in answers]
    return "answers", score_rows(_with_long_targets(task), texts, cuts)


def _with_long_targets(task: EvaluationTask) -> list[Row]:
    """The test rows, with the key TOO_LONG: whether the target, with an end token, has more tokens than an answer may have."""
    targets = [row["target"] for row in task.test]
    ids = task.tokenizer(targets, add_special_tokens=False)["input_ids"] if targets else []
    return [
        row | {TOO_LONG: len(target) >= task.settings.max_new_tokens}
        for row, target in zip(task.test, ids, strict=True)
    ]
