"""Explains a generated answer by occlusion: which words of the user change its probability when they are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flows.explain.load import RegisteredModel
from flows.explain.material import TRUNCATED, in_full, material_of, require_fit, require_rendered
from flows.explain.subject import PROMPT, Subject, texts_of, with_texts
from tasks.base.generation import answer_reader, end_token_ids
from tasks.config import PipelineConfig
from tasks.evaluate.perplexity import TOKENS_AT_ONCE, example_of, max_input_tokens, token_losses
from tasks.explain.explanation import AnswerPiece, Explanation, of_changes
from tasks.explain.occlusion import occlude, passes_needed
from tasks.explain.parts import Part, parts_of, without
from tasks.explain.pieces import pieces_of
from tasks.inference.embedded import EmbeddedEngine
from tasks.prompts.chat_prompts import Prompts
from tasks.records.languages import language_of_last_turn
from tasks.render.settings import RenderSettings
from tasks.runtime.progress import track

METHOD = "occlusion: the change of the answer's log-probability when a part is removed (Captum, FeatureAblation)"
END = " ⏎ end"
ROUNDED = "The model computes in bf16, as in evaluation: a share of a few tenths of a nat may be rounding."
REMOVED = "words and, for long texts, clauses and sentences of the user; the template and its control tokens stay"


class PromptWriter:
    """The prompt of a row, or of a text, with other texts of its user: the template and its control tokens stay."""

    def __init__(self, registered: RegisteredModel, subject: Subject, settings: RenderSettings) -> None:
        self.prompts = Prompts(registered.tokenizer, registered.thinks)
        self.row, self.texts, self.notes = subject.row, subject.texts, list(subject.notes)
        if self.row is None:
            return
        # a mixed row keeps its template, whichever words are removed
        row = {**self.row, "language": language_of_last_turn(self.row)}
        material = material_of(registered, settings, row)
        examples = material.render([row], all_turns=False)
        require_rendered(material)
        self.row, self.material = dict(examples[0].fitted), in_full(material)
        if examples[0].was_cut:
            self.texts = texts_of(self.row)
            self.notes.append(TRUNCATED)

    def write(self, texts: Mapping[str, str]) -> list[int]:
        """The token ids of the prompt."""
        if self.row is None:
            return self.prompts.of_chat([{"role": "user", "content": texts[PROMPT]}])
        examples = self.material.render([with_texts(self.row, texts)], all_turns=False)
        require_rendered(self.material)
        return examples[0].prompt_ids


def explain_answer(registered: RegisteredModel, subject: Subject, config: PipelineConfig, passes: int) -> Explanation:
    """The shares of the parts of the user's texts in the answer that the model gives, greedily, as in evaluation.

    Raises:
        DataError: prompt and answer exceed the context.
    """
    model, tokenizer, longest = registered.model, registered.tokenizer, config.evaluate.max_new_tokens
    writer = PromptWriter(registered, subject, config.render)
    prompt = writer.write(writer.texts)
    require_fit(model, len(prompt), longest, subject.name)
    answer = _generate(registered, prompt, longest)

    def log_probabilities(removed: Sequence[Sequence[Part]]) -> list[list[float]]:
        prompts = [writer.write(without(writer.texts, parts)) for parts in removed]
        losses = token_losses(model, [example_of([*ids, *answer], len(ids)) for ids in prompts])
        return [[-loss for loss in row] for row in losses]

    (complete,) = log_probabilities([[]])
    pieces = answer_pieces(tokenizer, answer, complete, end_token_ids(model, tokenizer))
    fields = [parts_of(name, text) for name, text in writer.texts.items()]
    rows = max(1, TOKENS_AT_ONCE // (len(prompt) + len(answer)))
    with track("explain", total=passes_needed(fields, passes), unit="passes") as progress:
        changes = occlude(fields, log_probabilities, complete, passes=passes, rows=rows, advance=progress.advance)
    total = sum(complete)
    facts = {
        "log-probability of the answer": f"{total:.3f} nats",
        "mean probability of a token": f"{math.exp(total / len(answer)):.1%}",
        "parts removed": str(len(changes)),
    }
    notes = [*writer.notes, *([ROUNDED] if registered.precision == "bf16" else [])]
    return Explanation(
        subject=subject.name,
        model=registered.label,
        facts=registered.facts,
        method=METHOD,
        settings={
            "decoding": f"greedy, at most {longest} tokens (evaluate.max_new_tokens)",
            "removed": REMOVED,
            "passes": f"at most {passes} (--passes)",
        },
        output=answer_reader(tokenizer)(answer),
        target=subject.target,
        attributions=[of_changes("Of the whole answer", writer.texts, fields, changes, pieces, facts)],
        answer=pieces,
        notes=notes,
    )


def _generate(registered: RegisteredModel, prompt: list[int], longest: int) -> list[int]:
    model, positions = registered.model, max_input_tokens(registered.model)
    one_row: dict[str, Any] = {"stage": "explain", "rows": 1, "processes": 1}
    engine = EmbeddedEngine(model, registered.tokenizer, threads=registered.threads, positions=positions, **one_row)
    return engine.generate_tokens(prompt, longest)


def answer_pieces(
    tokenizer: Any, answer: Sequence[int], log_probabilities: Sequence[float], ends: Sequence[int]
) -> list[AnswerPiece]:
    """The answer's pieces with their probabilities; its end token is one."""
    made = []
    for piece in pieces_of(tokenizer, answer):
        is_end = answer[piece.tokens[-1]] in ends
        probability = math.exp(sum(log_probabilities[index] for index in piece.tokens))
        made.append(AnswerPiece(END if is_end else piece.text, probability, piece.tokens, is_end))
    return made
