"""A teacher's soft targets: at each trained token, its likeliest tokens and their log-probabilities. Asked once, and kept.

They lie in a folder as parquet files, a row an example: `key` (which tokens, and which of them are trained), `top_ids` int32 and
`top_log_probabilities` float16, both flat [trained tokens x top]. The folder can be carried to another machine: a student is
then trained there without the teacher.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tasks.finetune.model.context_length import longest_example, sliding_window_of
from tasks.finetune.step.gpu_kernels import boundaries
from tasks.finetune.step.packed_attention import PackedRows, collate, use_packed_attention
from tasks.runtime.files import write_parquet
from tasks.runtime.progress import Progress, say

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("top_ids", pa.list_(pa.int32())),
        ("top_log_probabilities", pa.list_(pa.float16())),
    ]
)
ROWS_A_FILE = 256
"""Packed rows whose targets are written at once: what a kill costs."""


def ask_teacher(
    load: Callable[[], Any], rows: PackedRows, top: int, vocabulary: int, folder: Path, progress: Progress
) -> None:
    """Asks a teacher for the soft targets of the examples that `folder` lacks.

    Args:
        load: gives the teacher; called if there is something to ask.
        top: so many of the likeliest tokens are kept.
        vocabulary: tokens that the student has; a teacher's head may be padded to more.
        progress: counts packed rows.
    """
    known = known_keys(folder)
    waiting: list[int] = []
    for row in range(len(rows)):
        if all(key in known for key, _ in _examples(rows[row])):
            progress.advance(1)
        else:
            waiting.append(row)
    if not waiting:
        return
    model = load()
    window = sliding_window_of(model.config.get_text_config())
    sees_all = window is None or longest_example(rows.rendered) <= window
    is_packed = sees_all and use_packed_attention(model, "bf16" if model.dtype == torch.bfloat16 else "fp32")
    ask = _logits_side_by_side if is_packed else _logits_one_by_one
    for start in range(0, len(waiting), ROWS_A_FILE):
        found = []
        for row in waiting[start : start + ROWS_A_FILE]:
            found += _targets(ask(model, rows[row]), rows[row], top, vocabulary)
            progress.advance(1)
        name = hashlib.sha256("".join(entry["key"] for entry in found).encode()).hexdigest()[:32]
        table = pa.Table.from_pylist(found, SCHEMA)
        write_parquet(folder / f"{name}.parquet", table, write_page_checksum=True)


def known_keys(folder: Path) -> set[str]:
    """The examples whose targets lie in `folder`."""
    return {key for path in _whole_files(folder) for key in pq.read_table(path, columns=["key"])["key"].to_pylist()}


def _whole_files(folder: Path) -> Iterator[Path]:
    """The files whose pages are as they were written; what a damaged one held is asked of the teacher again."""
    for path in sorted(folder.glob("*.parquet")):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for _ in file.iter_batches(64):
                    pass
        except (OSError, pa.ArrowException):
            say(f"finetune: {path} is damaged; it is not used")
        else:
            yield path


def lay_out(rows: PackedRows, folder: Path, top: int, scratch: Path) -> tuple[SoftArrays, int]:
    """The targets of all trained tokens, in the order of the rows, memory-mapped; and how many examples have some.

    Args:
        top: of each place; a folder that holds fewer is filled up with tokens of no probability.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    total, starts = 0, [0]
    for row in range(len(rows)):
        for key, count in _examples(rows[row]):
            places.setdefault(key, []).append((total, count))
            total += count
        starts.append(total)
    scratch.mkdir(parents=True, exist_ok=True)
    ids = np.lib.format.open_memmap(scratch / "ids.npy", "w+", np.int32, (total, top))
    known = np.lib.format.open_memmap(scratch / "log_probabilities.npy", "w+", np.float16, (total, top))
    for start in range(0, total, 1 << 20):
        known[start : start + (1 << 20)] = np.nan
    found = 0
    for path in _whole_files(folder):
        for batch in pq.ParquetFile(path).iter_batches(64):
            for entry in batch.to_pylist():
                for start, count in places.pop(entry["key"], []):
                    found += 1
                    if not count:
                        continue
                    _place(ids[start : start + count], entry["top_ids"], 0)
                    _place(known[start : start + count], entry["top_log_probabilities"], -np.inf)
    ids.flush()
    known.flush()
    return SoftArrays(ids, known, np.array(starts)), found


class SoftArrays:
    """Targets of trained tokens: of packed row i, those from starts[i] to starts[i + 1].

    ids: int32 [trained tokens, top]; log_probabilities: float16, the same, no number where nothing is known.
    """

    def __init__(
        self, ids: npt.NDArray[np.int32], known: npt.NDArray[np.float16], starts: npt.NDArray[np.int64]
    ) -> None:
        self.ids, self.known, self.starts = ids, known, starts

    def of(self, row: int) -> dict[str, Any]:
        """What `collate` takes of a packed row."""
        span = slice(int(self.starts[row]), int(self.starts[row + 1]))
        return {"soft_ids": np.array(self.ids[span]), "soft_log_probabilities": np.array(self.known[span])}


class TaughtRows(PackedRows):
    """Packed rows with a teacher's targets beside them."""

    def __init__(self, rows: PackedRows, soft: SoftArrays) -> None:
        super().__init__(rows.rendered, rows.learns_all)
        self.soft = soft

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), **self.soft.of(index)}


def _place(target: npt.NDArray[Any], values: list[Any], empty: float) -> None:
    given = np.array(values, target.dtype).reshape(len(target), -1)[:, : target.shape[1]]
    target[:, : given.shape[1]] = given
    target[:, given.shape[1] :] = empty


def _examples(row: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Key and trained tokens of each example of a packed row."""
    ends = np.cumsum([0, *row["lengths"]])
    for start, end in itertools.pairwise(ends.tolist()):
        ids, mask = row["input_ids"][start:end], row["loss_mask"][start:end]
        yield (
            hashlib.sha256(ids.astype("<i4").tobytes() + mask.astype("u1").tobytes()).hexdigest()[:32],
            int(mask.sum()),
        )


def _logits_side_by_side(model: Any, row: dict[str, Any]) -> torch.Tensor:
    """Of the trained tokens of a packed row, in order."""
    batch = {name: value.to(model.device) for name, value in collate([row]).items() if name != "rows"}
    batch |= boundaries(batch.pop("cu_seq_lens_q"), model.config._attn_implementation)
    places = (batch.pop("labels")[0] != -100).nonzero()[:, 0] - 1
    with torch.inference_mode():
        logits: torch.Tensor = model(**batch, logits_to_keep=places, use_cache=False).logits[0]
    return logits


def _logits_one_by_one(model: Any, row: dict[str, Any]) -> torch.Tensor:
    """The same, of a teacher that looks less far back than an example is long, or mixes tokens in a way of its own."""
    found, ends = [], np.cumsum([0, *row["lengths"]])
    for start, end in itertools.pairwise(ends.tolist()):
        ids = torch.from_numpy(row["input_ids"][start:end].astype(np.int64)).to(model.device)
        places = torch.from_numpy(np.flatnonzero(row["loss_mask"][start:end]) - 1).to(model.device)
        with torch.inference_mode():
            found.append(model(input_ids=ids[None], use_cache=False).logits[0, places])
    return torch.cat(found)


def _targets(logits: torch.Tensor, row: dict[str, Any], top: int, vocabulary: int) -> list[dict[str, Any]]:
    """What a teacher's logits (of the trained tokens) say, an entry an example."""
    logits = logits[:, :vocabulary]
    known, ids = torch.log_softmax(logits.float(), -1).topk(min(top, logits.shape[-1]))
    kept, shares = ids.cpu().numpy().astype(np.int32), known.cpu().numpy().astype(np.float16)
    entries, start = [], 0
    for key, count in _examples(row):
        span = slice(start, start + count)
        entries.append({"key": key, "top_ids": kept[span].ravel(), "top_log_probabilities": shares[span].ravel()})
        start += count
    return entries
