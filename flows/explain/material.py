"""How the rows of an explanation are rendered: with the templates and the tokenizer of the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from flows.explain.load import RegisteredModel
from flows.explain.subject import Row
from tasks.errors import DataError
from tasks.evaluate.perplexity import max_input_tokens
from tasks.render.forms.forms import Material
from tasks.render.settings import RenderSettings

NO_LIMIT = 1 << 30
TRUNCATED = "The text is truncated to render.max_length_tokens, as in training and evaluation."


def material_of(registered: RegisteredModel, settings: RenderSettings, row: Row) -> Material:
    """Renders rows of the family of `row`, truncated to `render.max_length_tokens` as in training and evaluation.

    Raises:
        DataError: there is no template for the row's family.
    """
    if row["family"] not in registered.families:
        what = f"no template for its family {row['family']}"
        raise DataError(what, where=row["row_id"], fix=f"Write data/templates/{row['family']}.yaml")
    return Material(registered.tokenizer, registered.families, settings, Counter())


def in_full(material: Material) -> Material:
    """The same without truncation."""
    longest = {"max_length_tokens": NO_LIMIT, "pack_length_tokens": NO_LIMIT}
    return replace(material, settings=material.settings.model_copy(update=longest))


def require_rendered(material: Material) -> None:
    """Raises DataError if a row has no example."""
    for row_id, reason in material.take_dropped():
        what = f"has no example for this model ({reason})"
        raise DataError(what, where=row_id, fix="Explain another row")


def require_fit(model: Any, prompt_tokens: int, answer_tokens: int, where: str) -> None:
    """Raises DataError if prompt and answer exceed the model's context."""
    positions = max_input_tokens(model)
    if positions is not None and prompt_tokens + answer_tokens > positions:
        what = f"its {prompt_tokens:,} tokens"
        what += f" and an answer of up to {answer_tokens:,}" if answer_tokens else ""
        fix = "Explain a shorter one" + (", or lower evaluate.max_new_tokens" if answer_tokens else "")
        raise DataError(f"{what} exceed the context of {positions:,} tokens", where=where, fix=fix)
