"""What `render` writes and `finetune` and `evaluate` read: data/rendered/<form>/<split>, in the forms of forms.py.

answers   conversations, their answers trained; texts: raw text, every token trained. Packed, as flat arrays, memory-mapped (below)
labels    texts with a label each: the same arrays, an example a packed row, and labels.npy int32 [examples]; labels.json: the names
pairs     a prompt with a better and a worse answer: prompt_ids, chosen_ids, rejected_ids (<split>.parquet); ranked: the same, for a
          model that does not answer, but scores answers: it is judged by pairs as well
judged    a prompt with an answer that was judged good or bad: prompt_ids, answer_ids, desirable (<split>.parquet)
prompts   a prompt, and what an answer to it is scored against: prompt_ids, target, kind, before, after (<split>.parquet)
          All of these have the row_id as well

input_ids.npy   int32 [tokens]         all tokens, example after example
loss_mask.npy   uint8 [tokens]         1 where the token is part of an answer (its end token too)
examples.npy    int64 [examples + 1]   where each example begins, and the end
packs.npy       int64 [examples]       the packed row of each example; examples of one row lie side by side
ids.npy         S32 [examples]         the id of the row that each example was rendered from

An example is trained wherever the mask is 1: a dialogue has several answers. `templates.json` says how the rows were written: the
instruction templates of each family, the chat template, and which answers are trained. It travels with the model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tasks import paths
from tasks.errors import DataError
from tasks.runtime.files import read_json

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 4096

TEST = paths.RENDERED / "test.parquet"
VALID = paths.RENDERED / "valid.parquet"
"""The family of each validation row: row_id, family."""
TEMPLATES = paths.RENDERED / "templates.json"
LEFT_OUT = paths.RENDERED / "left_out.parquet"
"""The rows of the dataset of which there is no example, and why: row_id, split, reason (a stable code: `prompt_too_long`), and
detail (which rule of render.balance)."""


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


def speaks(form: str) -> bool:
    """Do rows of the form pass through a chat template?"""
    return form != "labels"


def thinks_by_training(folder: Path) -> bool:
    """Was the model in `folder` trained on more answers that think than others? Its prompts then end where a thought may begin."""
    path = folder / TEMPLATES.name
    return path.is_file() and bool(read_json(path).get("thinking"))


def not_rendered(path: str | Path) -> DataError:
    """The error for something that `render` has not written."""
    fix = "Make it: python -m tasks ingest, then dvc repro render"
    return DataError("not found", where=str(path), fix=fix)


def read_rendered(split: str, form: str = "answers") -> Rendered:
    """The arrays of `split` ("train" or "valid"), mapped from disk.

    Raises:
        DataError: they are not there.
    """
    folder = paths.RENDERED / form / split
    try:
        arrays = [
            np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in ("input_ids", "loss_mask", "examples", "packs", "ids")
        ]
    except FileNotFoundError as error:
        raise not_rendered(error.filename) from error
    return Rendered(*arrays)


def read_valid_families() -> dict[str, str]:
    """Row id → family of the validation rows.

    Raises:
        DataError: they are not there.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(VALID)
    except FileNotFoundError as error:
        raise not_rendered(VALID) from error
    return dict(zip(table["row_id"].to_pylist(), table["family"].to_pylist(), strict=True))


def read_left_out(path: Path = LEFT_OUT, row_ids: Collection[str] | None = None) -> pa.Table:
    """The rows (of these ids) of which there is no example, and why; none where `render` wrote no such file yet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in ("row_id", "split", "reason", "detail")])
    if not path.exists():
        return schema.empty_table()
    filters = None if row_ids is None else [("row_id", "in", sorted(row_ids))]
    return pq.read_table(path, schema=schema, filters=filters) if row_ids != set() else schema.empty_table()


def read_rows(split: str, form: str) -> pa.Table:
    """The rows of `split`, of a form that is kept as a table (`pairs`, `ranked`, `judged`, `prompts`), mapped from disk.

    Raises:
        DataError: they are not there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = paths.RENDERED / form / f"{split}.parquet"
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise not_rendered(path) from error
    paths.CACHE.mkdir(exist_ok=True)
    # written out once more as it lies in memory; the file has no name any more, and goes with this process
    with file, tempfile.NamedTemporaryFile(dir=paths.CACHE, prefix="rows-") as mapped:
        with pa.ipc.new_file(mapped, file.schema_arrow) as stream:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                stream.write_batch(batch)
        mapped.flush()
        return pa.ipc.open_file(pa.memory_map(mapped.name)).read_all()
