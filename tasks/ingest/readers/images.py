"""Images of records, in a column or in their turns: read once, at ingestion, and stored by the hash of their bytes.

They are in data/raw/<source>/images. In the record, each image is replaced by {"path", "sha256"}, or by {"path", "fault"} if it
could not be read: the record is kept, and refused by `validate` with that reason.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.ingest.fields import FIELDS, SHAPES_WITH_IMAGES, WITH_TURNS
from tasks.ingest.settings import Source
from tasks.records.turn_content import IMAGE_PART
from tasks.state.erasures import erased_images

MAX_IMAGE_BYTES = 64 * 1024 * 1024
ENDINGS = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)
"""The first bytes of each file type; WebP is checked separately."""

ReadImage = Callable[[str], bytes]
"""From a path in a record to the image's bytes. Raises FileNotFoundError or ValueError."""


class ImageStore:
    """Stores the images of one source's records; `faults` counts those that could not be read, of `named` in all."""

    def __init__(self, source: Source, read: ReadImage) -> None:
        self.source = source
        self.read = read
        self.column = source.columns.get("images", "images")
        self.turns = [source.columns.get(field, field) for field in WITH_TURNS if field in FIELDS[source.shape]]
        self.contents = {source.columns.get(field, field) for field in ("content", "value")}
        self.is_needed = source.shape in SHAPES_WITH_IMAGES
        self.named = 0
        self.faults = 0
        self.first_fault = ""

    @cached_property
    def _erased(self) -> frozenset[str]:
        return erased_images()

    def stored(self, record: Any) -> Any:
        """The record with its images stored and replaced by their hashes."""
        if not isinstance(record, dict):
            return record
        changed = {
            column: self._in_turns(record[column]) for column in self.turns if _may_hold_parts(record.get(column))
        }
        images = record.get(self.column)
        if images and isinstance(images, (list, str)):
            changed[self.column] = [self._stored(image) for image in (images if isinstance(images, list) else [images])]
        return record | changed if changed else record

    def _in_turns(self, turns: Any) -> Any:
        """A turn or a list of them, with the images in their content stored."""
        if isinstance(turns, list):
            return [self._in_turns(turn) for turn in turns]
        if not isinstance(turns, dict):
            return turns
        parts = {key: turns[key] for key in self.contents if isinstance(turns.get(key), list)}
        return turns | {key: [self._part(part) for part in content] for key, content in parts.items()}

    def _part(self, part: Any) -> Any:
        if not isinstance(part, dict) or part.get("type") != IMAGE_PART or IMAGE_PART not in part:
            return part
        image = part[IMAGE_PART]
        return part | {IMAGE_PART: self._stored(image.get("url") if isinstance(image, dict) else image)}

    def _stored(self, entry: Any) -> dict[str, str]:
        path = entry.get("path") if isinstance(entry, dict) else entry
        self.named += 1
        name = path if isinstance(path, str) and not path.startswith("data:") else "(embedded)"
        try:
            content = self._content(entry)
            return {"path": name, "sha256": self._store(content)}
        except FileNotFoundError:
            fault = "not found"
        except (ValueError, OSError) as error:
            fault = str(error)
        self.faults += 1
        self.first_fault = self.first_fault or f"{name}: {fault}"
        return {"path": name, "fault": fault}

    def _content(self, entry: Any) -> bytes:
        if isinstance(entry, dict) and isinstance(entry.get("bytes"), str):
            return _decoded(entry["bytes"])
        path = entry.get("path") if isinstance(entry, dict) else entry
        if not isinstance(path, str) or not path:
            raise ValueError("is no path of an image")
        if path.startswith("data:"):
            return _decoded(path.partition(",")[2])
        if path.startswith(("http://", "https://")):
            raise ValueError("stands on the web; put it beside the records")
        return self.read(path)

    def _store(self, content: bytes) -> str:
        from tasks.runtime.files import replacing

        digest = hashlib.sha256(content).hexdigest()
        target = paths.RAW / self.source.name / "images" / f"{digest}{_ending(content)}"
        if not target.exists() and digest not in self._erased:
            with replacing(target) as temporary:
                temporary.write_bytes(content)
        return digest


def _may_hold_parts(turns: Any) -> bool:
    """Whether turns may have images; most dialogues are only text."""
    several = turns if isinstance(turns, list) else [turns]
    return any(isinstance(inner, list) for turn in several if isinstance(turn, dict) for inner in turn.values())


def image_reader(source: Source, file: str | None = None) -> ReadImage:
    """Reads images in the source's `image_folder`, else in the folder of `file`, and never outside it."""
    if source.image_folder is None and file is None:
        return no_images
    root = Path(source.image_folder) if source.image_folder is not None else Path(file or "").parent
    real_root = root.resolve()

    def read(path: str) -> bytes:
        try:
            target = (root / path).resolve()
        except RuntimeError as error:  # as Python reports it before 3.13
            raise ValueError("is a link in a circle") from error
        if not target.is_relative_to(real_root):
            raise ValueError(f"leads out of {root}")
        if not target.is_file():
            raise FileNotFoundError(path)
        size = os.path.getsize(target)
        if size > MAX_IMAGE_BYTES:
            raise ValueError(f"is too large ({size:,} bytes)")
        return target.read_bytes()

    return read


def no_images(path: str) -> bytes:
    """The reader of sources without a folder."""
    raise ValueError("cannot be looked for: say where, `image_folder: FOLDER`")


def _ending(content: bytes) -> str:
    for start, ending in ENDINGS:
        if content.startswith(start):
            return ending
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    raise ValueError("is no image of a kind that is known (PNG, JPEG, GIF, WebP, BMP, TIFF)")


def _decoded(text: str) -> bytes:
    if len(text) > MAX_IMAGE_BYTES * 4 // 3:
        raise ValueError("is too large")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("is no base64") from None
