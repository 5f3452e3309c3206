"""Writes the arrays of rendered examples (tasks/dataset/rendered.py): collected in portions, then written in the order of packed
rows.

Tokens are in temporary files until all lengths are known and rows are packed: an example takes some twelve bytes of memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from tasks.prompts.tokens.word_cache import Ids
from tasks.render.packing.best_fit import Numbers
from tasks.render.packing.by_length import Lengths, ranks_of
from tasks.render.packing.packing import Packed, pack
from tasks.runtime.free_memory import give_memory_back

EXAMPLES_AT_ONCE = 8192
TEMPORARY = ("input_ids", "loss_mask", "ids", "lengths", "trained", "ranks")
_STRIDE = 16
Offsets = npt.NDArray[np.int64]


class Tokens(Protocol):
    """Tokens of a row with their loss mask: an Example (tokens.py) or a Piece."""

    @property
    def row_id(self) -> str: ...
    @property
    def ids(self) -> Ids: ...
    @property
    def mask(self) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Piece:
    row_id: str
    ids: Ids
    mask: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FlatExamples:
    """Several of them, concatenated."""

    row_ids: npt.NDArray[np.bytes_]
    lengths: npt.NDArray[np.int32]
    ids: Ids
    mask: npt.NDArray[np.uint8]


def flatten(examples: Sequence[Tokens]) -> FlatExamples:
    return FlatExamples(
        np.array([example.row_id for example in examples], "S32"),
        np.array([len(example.ids) for example in examples], np.int32),
        np.concatenate([np.zeros(0, np.int32), *(example.ids for example in examples)], dtype=np.int32),
        np.concatenate([np.zeros(0, np.uint8), *(example.mask for example in examples)]),
    )


class ArrayWriter:
    """Writes the examples of one split into `folder`.

    with ArrayWriter(folder) as writer:
        writer.add(flatten(examples))
        counts = writer.write(pack_length_tokens)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.examples = 0
        self._trained = self._tokens = self._longest = self._most_trained = 0
        self._temporary = folder / ".waiting"

    def __enter__(self) -> ArrayWriter:
        self._temporary.mkdir(parents=True)
        self._files = {name: (self._temporary / name).open("wb") for name in TEMPORARY}
        return self

    def __exit__(self, *raised: object) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._temporary)

    def add(self, examples: FlatExamples) -> None:
        self._files["input_ids"].write(examples.ids.data)
        self._files["loss_mask"].write(examples.mask.data)
        self._files["ids"].write(examples.row_ids.tobytes())
        self._files["lengths"].write(examples.lengths.data)
        trained = _sums(examples.mask, examples.lengths)
        self._files["trained"].write(trained.data)
        self._files["ranks"].write(ranks_of(examples.row_ids, self.examples).data)
        self._most_trained = max(self._most_trained, int(trained.max(initial=0)))
        self._longest = max(self._longest, int(examples.lengths.max(initial=0)))
        self._tokens += len(examples.ids)
        self._trained += int(examples.mask.sum())
        self.examples += len(examples.lengths)

    def write(self, pack_length_tokens: int | None) -> dict[str, Any]:
        """Packs the examples and writes the arrays; returns their counts. None: every example is a row of its own, in order."""
        for file in self._files.values():
            file.flush()
        give_memory_back()
        lengths = self._read_lengths("lengths", self._longest)
        if pack_length_tokens:
            trained = self._read_lengths("trained", self._most_trained)
            ranks = np.fromfile(self._temporary / "ranks", np.uint16)
            packed = pack(lengths, trained, ranks, pack_length_tokens)
            del trained, ranks
        else:
            packed = Packed(np.arange(len(lengths), dtype=np.int32), np.ones(len(lengths), np.int32))
        self._write_arrays(packed, Starts(lengths))
        rows, tokens = len(packed.counts), self._tokens
        room = rows * pack_length_tokens if pack_length_tokens else tokens
        return {
            "examples": self.examples,
            "packed_rows": rows,
            "tokens": tokens,
            "answer_tokens": self._trained,
            "padding_share": round(1 - tokens / room, 4) if rows else 0.0,
        }

    def _read_lengths(self, name: str, largest: int) -> Lengths:
        """(examples,) the int32 values of the file `name`, in the smallest type that holds `largest`."""
        numbers = np.empty(self.examples, np.min_scalar_type(largest))
        with (self._temporary / name).open("rb") as file:
            for first in range(0, self.examples, EXAMPLES_AT_ONCE):
                numbers[first : first + EXAMPLES_AT_ONCE] = np.fromfile(file, np.int32, EXAMPLES_AT_ONCE)
        return numbers

    def _write_arrays(self, packed: Packed, starts: Starts) -> None:
        """Writes the arrays in the order of the packed rows.

        Files are read and written in pieces, not memory-mapped: mapped pages count as memory of the process.
        """
        count, total = len(packed.order), self._tokens
        kinds = {"input_ids": ("<i4", total), "loss_mask": ("|u1", total), "ids": ("|S32", count)}
        ends = np.cumsum(packed.counts)
        with ExitStack() as stack:

            def new(name: str, kind: str, length: int) -> BinaryIO:
                return stack.enter_context(_new_array(self.folder / f"{name}.npy", kind, length))

            offsets_file, packs = new("examples", "<i8", count + 1), new("packs", "<i8", count)
            arrays = {name: new(name, kind, length) for name, (kind, length) in kinds.items()}
            inputs = {name: stack.enter_context((self._temporary / name).open("rb")).fileno() for name in kinds}
            end = 0
            offsets_file.write(np.zeros(1, np.int64).tobytes())
            for first in range(0, count, EXAMPLES_AT_ONCE):
                portion = packed.order[first : first + EXAMPLES_AT_ONCE]
                first_tokens, lengths = starts.of(portion)
                tokens = list(zip(first_tokens.tolist(), lengths.tolist(), strict=True))
                row_ids = [(place, 1) for place in portion.tolist()]
                for name, (kind, _) in kinds.items():
                    size = np.dtype(kind).itemsize
                    arrays[name].writelines(
                        os.pread(inputs[name], size * length, size * start)
                        for start, length in (row_ids if name == "ids" else tokens)
                    )
                lasts = end + np.cumsum(lengths)
                offsets_file.write(lasts.tobytes())
                rows = np.searchsorted(ends, np.arange(first, first + len(portion)), side="right")
                packs.write(rows.astype(np.int64).tobytes())
                end = int(lasts[-1])


class Starts:
    """The first token of each example: stored for one in sixteen, and computed from the lengths for the others."""

    def __init__(self, lengths: Lengths) -> None:
        self._lengths = lengths
        first = np.arange(0, len(lengths), _STRIDE)
        self._starts = np.zeros(len(first) + 1, np.int64)
        if len(first):
            np.cumsum(np.add.reduceat(lengths, first, dtype=np.int64), out=self._starts[1:])

    def of(self, examples: Numbers) -> tuple[Offsets, Offsets]:
        """(examples,) the first token of each, and its number of tokens."""
        strides = examples // _STRIDE
        neighbours = strides[:, None] * _STRIDE + np.arange(_STRIDE - 1)
        before = np.where(neighbours < examples[:, None], self._lengths[np.minimum(neighbours, examples[:, None])], 0)
        return self._starts[strides] + before.sum(axis=1, dtype=np.int64), self._lengths[examples].astype(np.int64)


def _sums(mask: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """(examples,) the number of trained tokens."""
    before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    ends = np.cumsum(lengths, dtype=np.int64)
    counts: npt.NDArray[np.int32] = (before[ends] - before[ends - lengths]).astype(np.int32)
    return counts


@contextlib.contextmanager
def _new_array(path: Path, kind: str, length: int) -> Iterator[BinaryIO]:
    """A file in the format of `np.save`, to which `length` values are then written."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": (length,)})
        yield file
