"""A teacher's soft targets: for each trained token, its most likely tokens and their log-probabilities. Computed once and stored.

They are parquet files in a folder, one row per example: `key` (a hash of the tokens and the loss mask), `top_ids` int32 and
`top_log_probabilities` float16, both flat [trained tokens x top]. The folder can be copied to another machine, where a student is
then trained without the teacher.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
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
from tasks.runtime.progress import Progress

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("top_ids", pa.list_(pa.int32())),
        ("top_log_probabilities", pa.list_(pa.float16())),
    ]
)
ROWS_PER_FILE = 256
"""Packed rows per file: the most that is lost by a kill."""


def compute_soft_targets(
    load: Callable[[], Any], rows: PackedRows, top: int, vocabulary: int, folder: Path, progress: Progress
) -> None:
    """Computes a teacher's soft targets of the examples that are not in `folder` yet.

    Args:
        load: loads the teacher; called only if targets are missing.
        top: number of the most likely tokens to store.
        vocabulary: size of the student's vocabulary; a teacher's head may be padded to more.
        progress: counts packed rows.
    """
    stored = {key for path in _intact_files(folder) for key in pq.read_table(path, columns=["key"])["key"].to_pylist()}
    missing: list[int] = []
    for row in range(len(rows)):
        if all(key in stored for key, _ in _examples(rows[row])):
            progress.advance(1)
        else:
            missing.append(row)
    if not missing:
        return
    model = load()
    window = sliding_window_of(model.config.get_text_config())
    fits_window = window is None or longest_example(rows.rendered) <= window
    is_packed = fits_window and use_packed_attention(model, "bf16" if model.dtype == torch.bfloat16 else "fp32")
    logits_of = _packed_logits if is_packed else _single_example_logits
    for start in range(0, len(missing), ROWS_PER_FILE):
        entries = []
        for row in missing[start : start + ROWS_PER_FILE]:
            entries += _targets(logits_of(model, rows[row]), rows[row], top, vocabulary)
            progress.advance(1)
        name = hashlib.sha256("".join(entry["key"] for entry in entries).encode()).hexdigest()[:32]
        table = pa.Table.from_pylist(entries, SCHEMA)
        write_parquet(folder / f"{name}.parquet", table, write_page_checksum=True)


def _intact_files(folder: Path) -> Iterator[Path]:
    """The files whose checksums are valid; the targets of a damaged file are computed again."""
    for path in sorted(folder.glob("*.parquet")):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for _ in file.iter_batches(64):
                    pass
        except (OSError, pa.ArrowException):
            logger.warning(f"finetune: {path} is damaged; it is not used")
        else:
            yield path


def load_soft_targets(rows: PackedRows, folder: Path, top: int, scratch: Path) -> tuple[SoftTargetArrays, int]:
    """The memory-mapped targets of all trained tokens, in row order, and the number of examples that have targets.

    Args:
        top: tokens per position; fewer stored ones are padded with tokens of probability 0.
    """
    positions: dict[str, list[tuple[int, int]]] = {}
    total, starts = 0, [0]
    for row in range(len(rows)):
        for key, count in _examples(rows[row]):
            positions.setdefault(key, []).append((total, count))
            total += count
        starts.append(total)
    scratch.mkdir(parents=True, exist_ok=True)
    ids = np.lib.format.open_memmap(scratch / "ids.npy", "w+", np.int32, (total, top))
    log_probabilities = np.lib.format.open_memmap(scratch / "log_probabilities.npy", "w+", np.float16, (total, top))
    for start in range(0, total, 1 << 20):
        log_probabilities[start : start + (1 << 20)] = np.nan
    examples = 0
    for path in _intact_files(folder):
        for batch in pq.ParquetFile(path).iter_batches(64):
            for entry in batch.to_pylist():
                for start, count in positions.pop(entry["key"], []):
                    examples += 1
                    if not count:
                        continue
                    _copy_padded(ids[start : start + count], entry["top_ids"], 0)
                    _copy_padded(log_probabilities[start : start + count], entry["top_log_probabilities"], -np.inf)
    ids.flush()
    log_probabilities.flush()
    return SoftTargetArrays(ids, log_probabilities, np.array(starts)), examples


class SoftTargetArrays:
    """Targets of all trained tokens; those of packed row i are from starts[i] to starts[i + 1].

    ids: int32 [trained tokens, top]; log_probabilities: float16, the same shape, NaN without targets.
    """

    def __init__(
        self, ids: npt.NDArray[np.int32], log_probabilities: npt.NDArray[np.float16], starts: npt.NDArray[np.int64]
    ) -> None:
        self.ids, self.log_probabilities, self.starts = ids, log_probabilities, starts

    def of_row(self, row: int) -> dict[str, Any]:
        """The fields of a packed row for `collate`."""
        span = slice(int(self.starts[row]), int(self.starts[row + 1]))
        log_probabilities = np.array(self.log_probabilities[span])
        return {"soft_ids": np.array(self.ids[span]), "soft_log_probabilities": log_probabilities}


class RowsWithSoftTargets(PackedRows):
    """Packed rows with a teacher's targets."""

    def __init__(self, rows: PackedRows, soft: SoftTargetArrays) -> None:
        super().__init__(rows.rendered, rows.learns_all)
        self.soft = soft

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), **self.soft.of_row(index)}


def _copy_padded(target: npt.NDArray[Any], stored: list[Any], filler: float) -> None:
    values = np.array(stored, target.dtype).reshape(len(target), -1)[:, : target.shape[1]]
    target[:, : values.shape[1]] = values
    target[:, values.shape[1] :] = filler


def _examples(row: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Key and number of trained tokens of each example in a packed row."""
    ends = np.cumsum([0, *row["lengths"]])
    for start, end in itertools.pairwise(ends.tolist()):
        ids, mask = row["input_ids"][start:end], row["loss_mask"][start:end]
        yield (
            hashlib.sha256(ids.astype("<i4").tobytes() + mask.astype("u1").tobytes()).hexdigest()[:32],
            int(mask.sum()),
        )


def _packed_logits(model: Any, row: dict[str, Any]) -> torch.Tensor:
    """Logits of the trained tokens of a packed row, in order."""
    batch = {name: value.to(model.device) for name, value in collate([row]).items() if name != "rows"}
    batch |= boundaries(batch.pop("cu_seq_lens_q"), model.config._attn_implementation)
    positions = (batch.pop("labels")[0] != -100).nonzero()[:, 0] - 1
    with torch.inference_mode():
        logits: torch.Tensor = model(**batch, logits_to_keep=positions, use_cache=False).logits[0]
    return logits


def _single_example_logits(model: Any, row: dict[str, Any]) -> torch.Tensor:
    """The same for a teacher that does not support packed rows, or whose sliding window is shorter than an example."""
    logits, ends = [], np.cumsum([0, *row["lengths"]])
    for start, end in itertools.pairwise(ends.tolist()):
        ids = torch.from_numpy(row["input_ids"][start:end].astype(np.int64)).to(model.device)
        positions = torch.from_numpy(np.flatnonzero(row["loss_mask"][start:end]) - 1).to(model.device)
        with torch.inference_mode():
            logits.append(model(input_ids=ids[None], use_cache=False).logits[0, positions])
    return torch.cat(logits)


def _targets(logits: torch.Tensor, row: dict[str, Any], top: int, vocabulary: int) -> list[dict[str, Any]]:
    """The top tokens of a teacher's logits (of the trained tokens), one entry per example."""
    logits = logits[:, :vocabulary]
    values, ids = torch.log_softmax(logits.float(), -1).topk(min(top, logits.shape[-1]))
    top_ids, top_values = ids.cpu().numpy().astype(np.int32), values.cpu().numpy().astype(np.float16)
    entries, start = [], 0
    for key, count in _examples(row):
        span = slice(start, start + count)
        entries.append(
            {"key": key, "top_ids": top_ids[span].ravel(), "top_log_probabilities": top_values[span].ravel()}
        )
        start += count
    return entries
