"""How much a model reads at once, and what is said of a row that is longer: learned positions end in the middle of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base.convert import base_folder
from tasks.base.foreign import trusts
from tasks.base.heads import positions_of
from tasks.base.load import is_adapter
from tasks.dataset.rendered import Rendered
from tasks.errors import TrainingError
from tasks.finetune.work import Work

if TYPE_CHECKING:
    import pyarrow as pa


def room_of(work: Work) -> int | None:
    """The longest row, in tokens, that what is trained can read; None where its configuration names no limit."""
    positions = positions_of(config_of(work))
    virtual = work.settings.prompt.virtual_tokens if work.settings.method == "prompt" else 0
    return None if positions is None else positions - virtual


def window_of(config: Any) -> int | None:
    """How far back the layers look that do not look at all of an example; None where all do. Our attention for packed rows does.

    Args:
        config: of the text model.
    """
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    return window if kinds is None or "sliding_attention" in kinds else None


def config_of(work: Work) -> Any:
    """The configuration of what is trained, of its text model."""
    from transformers import AutoConfig

    start = work.start
    folder = base_folder(work.record) if start is None or is_adapter(start) else start
    return AutoConfig.from_pretrained(folder, trust_remote_code=trusts(folder)).get_text_config()


def require_room(work: Work, longest: int) -> None:
    """Raises TrainingError where the longest row, of `longest` tokens, is longer than the model reads."""
    room = room_of(work)
    if room is not None and longest > room:
        what = f"a row has {longest} tokens, and the model reads {room}"
        raise TrainingError(what, where="render.max_length_tokens", fix=f"Lower it to {room}")


def longest_example(*splits: Rendered) -> int:
    """Tokens of the longest example of all splits; 0 where there is none."""
    return max((int(np.diff(split.examples).max()) for split in splits if len(split)), default=0)


def longest_row(*tables: pa.Table) -> int:
    """Tokens of the longest prompt with an answer to it, of all tables; of the longest prompt, where they have no answers."""
    import pyarrow.compute as pc

    longest = 0
    for table in tables:
        lengths: dict[str, Any] = {
            name: pc.list_value_length(table[name]) for name in table.column_names if name.endswith("_ids")
        }
        prompts = lengths.pop("prompt_ids")
        for whole in [pc.add(prompts, answers) for answers in lengths.values()] or [prompts]:
            longest = max(longest, pc.max(whole).as_py() or 0)
    return longest
