"""The arrays that `render` hands on (tasks/rendered.py), gathered a portion at a time and laid out row by packed row.

Tokens wait on disk until all lengths are known and rows can be packed, so that a million examples take little memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasks.render.packing import pack
from tasks.render.words import Ids


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
        self._waiting = folder / ".waiting"
        self._lengths: list[np.ndarray[Any, np.dtype[np.int32]]] = []
        self._row_ids: list[np.ndarray[Any, np.dtype[np.bytes_]]] = []

    def __enter__(self) -> Gathered:
        self._waiting.mkdir(parents=True)
        self._ids = (self._waiting / "ids").open("wb")
        self._mask = (self._waiting / "mask").open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ids.close()
        self._mask.close()
        shutil.rmtree(self._waiting)

    def add(self, examples: Sequence[Tokens]) -> None:
        if examples:
            self._ids.write(np.concatenate([example.ids for example in examples]).tobytes())
            self._mask.write(np.concatenate([example.mask for example in examples]).tobytes())
            self._lengths.append(np.array([len(example.ids) for example in examples], np.int32))
            self._row_ids.append(np.array([example.row_id for example in examples], "S32"))

    def write(self, pack_length_tokens: int | None) -> dict[str, Any]:
        """Packs the examples and writes the arrays; returns their counts. None: each is a packed row of its own, in order."""
        self._ids.flush()
        self._mask.flush()
        lengths = np.concatenate([np.zeros(0, np.int32), *self._lengths])
        rows = pack(lengths.tolist(), pack_length_tokens) if pack_length_tokens else [[i] for i in range(len(lengths))]
        order = np.array([index for row in rows for index in row], np.int64)
        bounds = np.concatenate([[0], np.cumsum(lengths[order], dtype=np.int64)])
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        total = int(bounds[-1])
        for name, waiting, kind in (("input_ids", "ids", np.int32), ("loss_mask", "mask", np.uint8)):
            self._lay_out(name, waiting, np.dtype(kind), starts[order], bounds)
        packs = np.repeat(np.arange(len(rows), dtype=np.int64), [len(row) for row in rows])
        np.save(self.folder / "examples.npy", bounds.astype(np.int64))
        np.save(self.folder / "packs.npy", packs)
        np.save(self.folder / "ids.npy", np.concatenate([np.zeros(0, "S32"), *self._row_ids])[order])
        trained = int(np.load(self.folder / "loss_mask.npy", mmap_mode="r").sum()) if total else 0
        room = len(rows) * pack_length_tokens if pack_length_tokens else total
        return {
            "examples": len(order),
            "packed_rows": len(rows),
            "tokens": total,
            "answer_tokens": trained,
            "padding_share": round(1 - total / room, 4) if rows else 0.0,
        }

    def _lay_out(self, name: str, waiting: str, kind: np.dtype[Any], starts: Any, bounds: Any) -> None:
        """The waiting array in the order of the packed rows."""
        total = int(bounds[-1])
        if not total:
            np.save(self.folder / f"{name}.npy", np.zeros(0, kind))
            return
        source = np.memmap(self._waiting / waiting, kind, "r", shape=(total,))
        target = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", kind, (total,))
        for start, first, last in zip(starts.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            target[first:last] = source[start : start + last - first]
        target.flush()
