"""The context length of a model, and the check that no row exceeds it: learned positions would run out during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base.convert import base_folder
from tasks.base.foreign import trusts
from tasks.base.heads import context_length_of
from tasks.base.load import is_adapter
from tasks.dataset.rendered import Rendered
from tasks.errors import TrainingError
from tasks.finetune.work import Work

if TYPE_CHECKING:
    import pyarrow as pa


def max_row_tokens(work: Work) -> int | None:
    """The maximum row length, in tokens, of the trained model; None where its configuration has no limit."""
    positions = context_length_of(text_config_of(work))
    virtual = work.settings.prompt.virtual_tokens if work.settings.method == "prompt" else 0
    return None if positions is None else positions - virtual


def sliding_window_of(config: Any) -> int | None:
    """The window of the sliding-window layers; None for full attention. Our attention for packed rows has no window.

    Args:
        config: configuration of the text model.
    """
    window: int | None = getattr(config, "sliding_window", None)
    layer_types = getattr(config, "layer_types", None)
    return window if layer_types is None or "sliding_attention" in layer_types else None


def text_config_of(work: Work) -> Any:
    """The configuration of the trained model's text model."""
    from transformers import AutoConfig

    start = work.start
    folder = base_folder(work.record) if start is None or is_adapter(start) else start
    return AutoConfig.from_pretrained(folder, trust_remote_code=trusts(folder)).get_text_config()


def require_fits_context(work: Work, longest: int) -> None:
    """Raises TrainingError where the longest row, of `longest` tokens, exceeds the context length."""
    limit = max_row_tokens(work)
    if limit is not None and longest > limit:
        what = f"a row has {longest} tokens, and the context length of the model is {limit}"
        raise TrainingError(what, where="render.max_length_tokens", fix=f"Lower it to {limit}")


def longest_example(*splits: Rendered) -> int:
    """Tokens of the longest example of all splits; 0 without examples."""
    return max((int(np.diff(split.examples).max()) for split in splits if len(split)), default=0)


def longest_row(*tables: pa.Table) -> int:
    """Tokens of the longest prompt with its answer, over all tables; of the longest prompt where they have no answers."""
    import pyarrow.compute as pc

    longest = 0
    for table in tables:
        lengths: dict[str, Any] = {
            name: pc.list_value_length(table[name]) for name in table.column_names if name.endswith("_ids")
        }
        prompts = lengths.pop("prompt_ids")
        for sums in [pc.add(prompts, answers) for answers in lengths.values()] or [prompts]:
            longest = max(longest, pc.max(sums).as_py() or 0)
    return longest
