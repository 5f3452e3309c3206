"""The rendered side of a split, as `render` writes and `finetune` and `evaluate` read it: flat arrays, memory-mapped.

input_ids.npy   int32 [tokens]         all tokens, example after example
loss_mask.npy   uint8 [tokens]         1 where the token is part of an answer (its end token too)
examples.npy    int64 [examples + 1]   where each example begins, and the end
packs.npy       int64 [examples]       the packed row of each example; examples of one row lie side by side
ids.npy         S32 [examples]         the id of the row that each example was rendered from

An example is trained wherever the mask is 1: a dialogue has several answers. `templates.json` says how the rows were written: the
instruction templates of each family, the chat template, and which answers are trained. It travels with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks import paths
from tasks.errors import DataError

TEST = paths.RENDERED / "test.parquet"
TEMPLATES = paths.RENDERED / "templates.json"


@dataclass(frozen=True)
class Rendered:
    input_ids: npt.NDArray[np.int32]
    loss_mask: npt.NDArray[np.uint8]
    examples: npt.NDArray[np.int64]
    packs: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]

    def __len__(self) -> int:
        """Packed rows."""
        return int(self.packs[-1]) + 1 if len(self.packs) else 0

    def bounds(self, pack: int) -> npt.NDArray[np.int64]:
        """Token offsets of the examples of a packed row: where each begins, and the end."""
        first, last = np.searchsorted(self.packs, [pack, pack + 1])
        return self.examples[first : last + 1]

    def row_ids(self, pack: int) -> list[str]:
        """The ids of the rows in a packed row."""
        first, last = np.searchsorted(self.packs, [pack, pack + 1])
        return [row_id.decode() for row_id in self.ids[first:last].tolist()]


def read_rendered(split: str, folder: Path = paths.RENDERED) -> Rendered:
    """The arrays of `split` ("train" or "valid"), mapped from disk.

    Raises:
        DataError: they are not there.
    """
    try:
        arrays = [
            np.load(folder / split / f"{name}.npy", mmap_mode="r")
            for name in ("input_ids", "loss_mask", "examples", "packs", "ids")
        ]
    except FileNotFoundError as error:
        raise DataError("not found", where=str(error.filename), fix="Make it: dvc repro render") from error
    return Rendered(*arrays)
