"""Hugging Face datasets: a folder that `save_to_disk` wrote, or the hub's id of one with a revision."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tasks.errors import SourceError, one_line
from tasks.ingest.connectors.connector import Connector, OpenItem
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.readers.arrow_messages import unpacked_bytes
from tasks.ingest.readers.arrow_rows import rows_of
from tasks.ingest.readers.class_labels import label_names
from tasks.ingest.readers.columnar import ROWS_AT_ONCE, portions
from tasks.ingest.readers.compression import Bound
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.runtime.files import content_digest

HUB_SECONDS = 10.0
"""The time limit of a request to the hub."""


class HubDataset(Connector):
    """The items are splits, by name."""

    def list_items(self) -> Listing:
        """Each split has a stamp of its files (a folder) or of its revision (an id)."""
        source = self.source
        assert source.path is not None
        folder = Path(os.path.expanduser(source.path))
        if not folder.exists():
            if folder.is_absolute() or source.path.startswith("."):
                fix = "Fix the path in params.yaml (section `ingest`)"
                raise SourceError("no such folder", where=_where(source), fix=fix)
            if source.revision is None:
                fix = "Pin one, so that the rows stay the same: `revision: COMMIT` (the hub shows it under Files)"
                raise SourceError("is not a folder, and a hub id needs a revision", where=_where(source), fix=fix)
            stamp = content_digest([source.revision, source.subset, source.split])
            return Listing({f"{source.path}@{source.revision}": ItemState(stamp=stamp)})
        all_splits = _splits_of(folder, source)
        splits = {name: folder for name, folder in all_splits.items() if source.split in (None, name, "")}
        if not splits:
            what = f"has no split `{source.split}`; it has {', '.join(all_splits)}"
            raise SourceError(what, where=_where(source), fix="Name one of these")
        return Listing({folder.as_posix(): _state_of(folder) for folder in splits.values()})

    def require(self) -> None:
        """Also checks that the hub has the revision; if it cannot be reached that is no error, as the rows may be cached."""
        source = self.source
        self.list_items()
        assert source.path is not None
        if Path(os.path.expanduser(source.path)).exists():
            return
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        if constants.HF_HUB_OFFLINE:
            return
        try:
            HfApi().dataset_info(source.path, revision=source.revision, timeout=HUB_SECONDS)
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            what = f"the hub has no such dataset or revision, or does not permit access ({type(error).__name__})"
            fix = "Fix path and revision, or log in: hf auth login"
            raise SourceError(what, where=_where(source), fix=fix) from error
        except Exception:  # noqa: BLE001  hub, network and HTTP library have no common class
            return

    def open_item(self, name: str, before: ItemState | None) -> AbstractContextManager[OpenItem]:
        return self.open_records(read_split(self.source, name))


def read_split(source: Source, name: str) -> Iterator[RawRecord]:
    """The rows of an item that `list_items` returned.

    Raises:
        SourceError: it cannot be read, or the hub cannot be reached.
    """
    import pyarrow as pa

    number = 0
    for dataset in _loaded(source, name):
        names = label_names(dataset.features.to_dict())
        bound = Bound(_file_bytes(dataset), len(dataset), source.max_uncompressed_bytes, name)
        try:
            for table in dataset.with_format("arrow").iter(ROWS_AT_ONCE):
                for batch in table.to_batches():
                    for portion in portions(batch, bound):
                        yield from rows_of(portion, number, names)
                        number += portion.num_rows
        except (pa.ArrowException, OSError, MemoryError) as error:
            reason = one_line((str(error) or type(error).__name__).splitlines()[0], 200)
            raise SourceError(f"cannot be read ({reason})", where=name, fix="Save or fetch it again, whole") from error


def _splits_of(folder: Path, source: Source) -> dict[str, Path]:
    """Split → its folder; "" for a dataset that has none."""
    if (folder / "state.json").is_file():
        return {"": folder}
    try:
        names = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return {str(name): folder / str(name) for name in sorted(names)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "Save it with `dataset.save_to_disk(folder)`; Parquet and JSON files are `kind: files`"
        raise SourceError("is not a dataset that save_to_disk wrote", where=_where(source), fix=fix) from error


def _state_of(folder: Path) -> ItemState:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path.name, path.stat()) for path in files]
    stamp = content_digest([[name, status.st_size, status.st_mtime_ns] for name, status in stats])
    return ItemState(sum(status.st_size for _, status in stats), stamp=stamp)


def _file_bytes(dataset: Any) -> int:
    """Size of a dataset's files."""
    return sum(os.path.getsize(file["filename"]) for file in dataset.cache_files if os.path.isfile(file["filename"]))


def _require_bounded(source: Source, folder: Path) -> None:
    """Raises SourceError if a shard's compressed columns exceed its bound: they are unpacked when it is opened."""
    for path in sorted(folder.glob("*.arrow")):
        Bound(path.stat().st_size, 0, source.max_uncompressed_bytes, str(path)).require(unpacked_bytes(path))


def _loaded(source: Source, name: str) -> list[Any]:
    """The datasets behind an item: one, or every split of a hub id."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if Path(name).is_dir():
            _require_bounded(source, Path(name))
            return [datasets.load_from_disk(name)]
        loaded = datasets.load_dataset(  # never runs a script of the dataset: there is no such setting
            source.path, source.subset, revision=source.revision, split=source.split
        )
        return list(loaded.values()) if isinstance(loaded, dict) else [loaded]
    except SourceError:
        raise
    except Exception as error:
        reason = one_line(error, 200) or type(error).__name__
        fix = "Check the network and the id, or save it once: `dataset.save_to_disk(folder)`"
        raise SourceError(f"cannot be read ({reason})", where=_where(source), fix=fix) from error


def _where(source: Source) -> str:
    return f"source `{source.name}`, path {source.path}"
