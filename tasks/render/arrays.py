"""The arrays that `render` hands on (tasks/rendered.py), gathered a portion at a time and laid out row by packed row.

Tokens wait on disk until all lengths are known and rows can be packed: an example takes some sixteen bytes of memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from tasks.memory import give_memory_back
from tasks.render.packing import Packed, pack
from tasks.render.words import Ids

EXAMPLES_AT_ONCE = 8192
Offsets = npt.NDArray[np.int64]


class Tokens(Protocol):
    """Some tokens of a row, and which of them are trained: an Example (tokens.py), or a Piece."""

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


class Gathered:
    """Examples of one split on their way into `folder`.

    with Gathered(folder) as gathered:
        gathered.add(examples)
        counts = gathered.write(pack_length_tokens)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.examples = 0
        self._trained = 0
        self._waiting = folder / ".waiting"

    def __enter__(self) -> Gathered:
        self._waiting.mkdir(parents=True)
        self._files = {name: (self._waiting / name).open("wb") for name in ("input_ids", "loss_mask", "ids", "lengths")}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._waiting)

    def add(self, examples: Sequence[Tokens]) -> None:
        if examples:
            mask = np.concatenate([example.mask for example in examples])
            ids = np.concatenate([example.ids for example in examples])
            self._files["input_ids"].write(ids.astype(np.int32, copy=False).tobytes())
            self._files["loss_mask"].write(mask.tobytes())
            self._files["ids"].write(np.array([example.row_id for example in examples], "S32").tobytes())
            self._files["lengths"].write(np.array([len(example.ids) for example in examples], np.int32).tobytes())
            self._trained += int(mask.sum())
            self.examples += len(examples)

    def write(self, pack_length_tokens: int | None) -> dict[str, Any]:
        """Packs the examples and writes the arrays; returns their counts. None: each is a packed row of its own, in order."""
        for file in self._files.values():
            file.flush()
        give_memory_back()
        lengths = np.fromfile(self._waiting / "lengths", np.int32)
        if pack_length_tokens:
            packed = pack(lengths, pack_length_tokens)
        else:
            packed = Packed(np.arange(len(lengths), dtype=np.int32), np.ones(len(lengths), np.int32))
        edges = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=edges[1:])
        del lengths
        self._lay_out(packed, edges)
        rows, tokens = len(packed.counts), int(edges[-1])
        room = rows * pack_length_tokens if pack_length_tokens else tokens
        return {
            "examples": self.examples,
            "packed_rows": rows,
            "tokens": tokens,
            "answer_tokens": self._trained,
            "padding_share": round(1 - tokens / room, 4) if rows else 0.0,
        }

    def _lay_out(self, packed: Packed, edges: Offsets) -> None:
        """Writes the arrays in the order of the packed rows. `edges`: where each waiting example begins, and the end.

        Files are read and written piece by piece, not mapped: what is mapped counts as memory, though it can be had back.
        """
        count, total = len(packed.order), int(edges[-1])
        kinds = {"input_ids": ("<i4", total), "loss_mask": ("|u1", total), "ids": ("|S32", count)}
        ends = np.cumsum(packed.counts)
        with ExitStack() as stack:

            def new(name: str, kind: str, length: int) -> BinaryIO:
                return stack.enter_context(_new_array(self.folder / f"{name}.npy", kind, length))

            starts, packs = new("examples", "<i8", count + 1), new("packs", "<i8", count)
            arrays = {name: new(name, kind, length) for name, (kind, length) in kinds.items()}
            waiting = {name: stack.enter_context((self._waiting / name).open("rb")).fileno() for name in kinds}
            end = 0
            starts.write(np.zeros(1, np.int64).tobytes())
            for first in range(0, count, EXAMPLES_AT_ONCE):
                chosen = packed.order[first : first + EXAMPLES_AT_ONCE]
                tokens = list(zip(edges[chosen].tolist(), edges[chosen + 1].tolist(), strict=True))
                places = [(place, place + 1) for place in chosen.tolist()]
                for name, (kind, _) in kinds.items():
                    size = np.dtype(kind).itemsize
                    arrays[name].writelines(
                        os.pread(waiting[name], size * (last - start), size * start)
                        for start, last in (places if name == "ids" else tokens)
                    )
                lasts = end + np.cumsum([last - start for start, last in tokens])
                starts.write(lasts.astype(np.int64).tobytes())
                rows = np.searchsorted(ends, np.arange(first, first + len(chosen)), side="right")
                packs.write(rows.astype(np.int64).tobytes())
                end = int(lasts[-1])


@contextlib.contextmanager
def _new_array(path: Path, kind: str, length: int) -> Iterator[BinaryIO]:
    """A file as `np.save` writes it, for as many values as are then written to it."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": (length,)})
        yield file
