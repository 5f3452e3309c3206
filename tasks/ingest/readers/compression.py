"""A file's bytes, unpacked where it is an archive (`.gz`, `.zst`): streaming, bounded, and up to a cut where there is one."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tasks.errors import SourceError

ARCHIVES = (".gz", ".zst")
LEAST_BOUND_BYTES = 64 * 1024 * 1024
LARGEST_RATIO = 100
"""Text seldom packs to less than a twentieth; an archive made to fill a disk packs to a thousandth."""
EVIDENCE_BYTES = 64


@dataclass
class Content:
    """The bytes of a file, to be opened as often as a reader needs; `fault` says why they ended too early."""

    path: Path
    max_uncompressed_bytes: int | None = None
    """None: LEAST_BOUND_BYTES, or LARGEST_RATIO times the file's size where that is more."""
    label: str = ""
    """The file's name in messages, if that is not its path."""
    partner: Content | None = None
    """The second file of a format whose records are in two."""
    skip_bytes: int = 0
    """Length of a part that was read before; readers of formats that `resume` skip it."""
    skip_lines: int = 0
    """Lines in that part."""
    fault: str = field(default="", init=False)

    @property
    def name(self) -> str:
        return self.label or str(self.path)

    @property
    def archive(self) -> str:
        """`.gz`, `.zst`, or "" for a file that is read as it is."""
        ending = self.path.suffix.lower()
        return ending if ending in ARCHIVES else ""

    @property
    def ending(self) -> str:
        """The ending that tells the format: the one before `.gz`."""
        return Path(self.path.stem).suffix.lower() if self.archive else self.path.suffix.lower()

    def open(self) -> BinaryIO:
        if not self.archive or self.path.stat().st_size == 0:
            return self.path.open("rb")
        return io.BufferedReader(_Unpacking(self), 256 * 1024)

    def evidence(self) -> bytes:
        """The last bytes of a file that ended too early: what stands in raw for the part that is not there."""
        with self.path.open("rb") as file:
            file.seek(max(self.path.stat().st_size - EVIDENCE_BYTES, 0))
            return file.read()


class _Unpacking(io.RawIOBase):
    """An archive's content. A cut or damaged archive ends where its readable part ends, and says so in `content.fault`."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._packed = _open_archive(content)
        self._given = 0
        size = content.path.stat().st_size
        self._bound = content.max_uncompressed_bytes or max(LEAST_BOUND_BYTES, LARGEST_RATIO * size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # one step at a time, so that a fault costs nothing that was unpacked before it
            piece = self._packed.read1(len(buffer))
        except _errors() as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            kind = "truncated_archive" if isinstance(error, EOFError) else "damaged_archive"
            told = "it ends in the middle" if isinstance(error, EOFError) else str(error)
            self._content.fault = f"{kind}: {told}; the {self._given:,} bytes before are kept"
            return 0
        self._given += len(piece)
        if self._given > self._bound:
            raise SourceError(
                f"unpacks to more than {self._bound:,} bytes, as does an archive bomb",
                where=self._content.name,
                fix="If it is as it should be, say so in its source: `max_uncompressed_bytes`",
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._packed.close()
        super().close()


def _open_archive(content: Content) -> Any:
    if content.archive == ".gz":
        return gzip.open(content.path, "rb")
    return _zstd().ZstdFile(content.path, "rb")


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd
    from backports import zstd

    return zstd


def _errors() -> tuple[type[Exception], ...]:
    """What a cut or damaged archive raises."""
    return OSError, EOFError, zlib.error, _zstd().ZstdError
