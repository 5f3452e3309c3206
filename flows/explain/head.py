"""Explains the output of a classification or reward head by integrated gradients."""

from __future__ import annotations

from collections.abc import Sequence

from flows.explain.load import RegisteredModel
from flows.explain.material import TRUNCATED, material_of, require_fit, require_rendered
from flows.explain.subject import Row, Subject
from tasks.base.heads import head_logits, text_ids
from tasks.errors import DataError
from tasks.explain.explanation import Attribution, Explanation, of_gradients
from tasks.explain.gradients import STEPS, TOLERANCE, integrated_gradients
from tasks.explain.pieces import pieces_of
from tasks.render.forms.forms import Material
from tasks.render.forms.labels import labelled_rows
from tasks.render.forms.pairs import pairs
from tasks.render.settings import RenderSettings
from tasks.runtime.progress import track
from tasks.scoring.answer_text import normalise_answer
from tasks.scoring.calibration import highest_probability

METHOD = "integrated gradients of the head's output by the embeddings (Captum, LayerIntegratedGradients)"


def explain_label(
    registered: RegisteredModel, subject: Subject, settings: RenderSettings, label: str | None
) -> Explanation:
    """The shares of the words in the logits of the predicted label, of the row's label, and of `label`.

    Raises:
        DataError: the head has no such label, or the row none.
    """
    labels, notes = registered.labels or (), list(subject.notes)
    if label is not None and label not in labels:
        what = f"the head of {registered.label} has no such label; it has {', '.join(labels)}"
        raise DataError(what, where=f"--label {label}", fix="Name one of these")
    ids, was_cut = _label_input(registered, subject, settings)
    if was_cut:
        notes.append(TRUNCATED)
    (logits,) = head_logits(registered.model, [ids], 1)
    predicted = labels[logits.index(max(logits))]
    outputs = {predicted: "the predicted label"}
    own = {normalise_answer(name): name for name in labels}.get(normalise_answer(subject.target))
    if own == predicted:
        outputs[own] += ", which is the row's"
    elif own is not None:
        outputs[own] = "the row's label"
    elif subject.target:
        notes.append(f"The row's label {subject.target!r} is none of the head's: {', '.join(labels)}.")
    if label is not None:
        outputs.setdefault(label, "the label of --label")
    attributions = [
        _attribution(registered, f"Towards {name}, {what}", "text", ids, labels.index(name))
        for name, what in outputs.items()
    ]
    return _explanation(registered, subject, attributions, f"{predicted} ({highest_probability(logits):.1%})", notes)


def explain_reward(registered: RegisteredModel, subject: Subject, settings: RenderSettings) -> Explanation:
    """The shares of the words of prompt and answer in the reward of each answer of the row.

    Raises:
        DataError: a text without an answer, or one that is too long.
    """
    if subject.row is None:
        what = f"{registered.label} scores answers, and a prompt has none"
        raise DataError(what, where="--prompt", fix="Explain a row: strop explain ROW")
    material = material_of(registered, settings, subject.row)
    sequences = _answers(subject.row, material)
    require_rendered(material)
    for ids in sequences.values():
        require_fit(registered.model, len(ids), 0, subject.name)
    notes = [*subject.notes, *([TRUNCATED] if material.counts["cut"] else [])]
    attributions = {
        name: _attribution(registered, f"Towards the reward of the {name}", f"prompt and {name}", ids, 0)
        for name, ids in sequences.items()
    }
    output = " · ".join(f"{name}: {attribution.facts['output']}" for name, attribution in attributions.items())
    return _explanation(registered, subject, list(attributions.values()), output, notes)


def _answers(row: Row, material: Material) -> dict[str, list[int]]:
    """The tokens of prompt and answer, for each answer of the row; empty if it cannot be rendered."""
    if not row["rejected"]:
        examples = material.render([row], all_turns=False)
        return {"answer": examples[0].ids.tolist()} if examples else {}
    sequences: dict[str, list[int]] = {}
    for _, pair in pairs([row], material):
        sequences = {f"{name} answer": pair["prompt_ids"] + pair[f"{name}_ids"] for name in ("chosen", "rejected")}
    return sequences


def _label_input(registered: RegisteredModel, subject: Subject, settings: RenderSettings) -> tuple[list[int], bool]:
    """The tokens of the text, and whether it is truncated."""
    if subject.row is None:
        return text_ids(registered.tokenizer, list(subject.texts.values()), settings.max_length_tokens)[0]
    material = material_of(registered, settings, subject.row)
    rows = labelled_rows([subject.row], material)
    require_rendered(material)
    return rows[0].ids, bool(material.counts["cut"])


def _attribution(registered: RegisteredModel, title: str, name: str, ids: Sequence[int], output: int) -> Attribution:
    tokenizer = registered.tokenizer
    fixed = frozenset(tokenizer.all_special_ids)
    with track("explain", total=1, unit="outputs") as progress:
        gradients = integrated_gradients(registered.model, ids, output, padding=tokenizer.pad_token_id, fixed=fixed)
        progress.advance(1, steps=gradients.steps)
    return of_gradients(title, name, pieces_of(tokenizer, ids), gradients, fixed, ids)


def _explanation(
    registered: RegisteredModel, subject: Subject, attributions: list[Attribution], output: str, notes: list[str]
) -> Explanation:
    baseline = f"each token of the text replaced by {registered.tokenizer.pad_token}; special tokens stay"
    steps = f"{STEPS[0]} to {STEPS[-1]}, doubled until the delta is at most {TOLERANCE:.0%} of the difference"
    return Explanation(
        subject=subject.name,
        model=registered.label,
        facts=registered.facts,
        method=METHOD,
        settings={"baseline": baseline, "steps": steps},
        output=output,
        target=subject.target,
        attributions=attributions,
        notes=notes,
    )
