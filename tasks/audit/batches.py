"""Audit of single raw batches in the working tree, such as those of a row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from tasks.audit.digests import Digests
from tasks.audit.file_checks import is_intact_batch
from tasks.audit.subject import Link
from tasks.errors import StropError
from tasks.runtime.plurals import count_of
from tasks.state.manifest import read_manifest


def check_batches(names: Iterable[str], *, deep: bool = False) -> list[Link]:
    """Each batch must have the bytes of the manifest; in a deep walk, its records must give it its name."""
    digests, links = Digests(reads_all=deep), []
    batches = {batch.batch: batch for batch in read_manifest()}
    for name in dict.fromkeys(names):
        batch = batches[name]
        detail = f"{batch.path}: {count_of(batch.rows, 'row')}, as in the manifest"
        try:
            if not (is_intact := is_intact_batch(batch.path, asdict(batch), None, digests)):
                detail = f"{batch.path} has changed"
        except (StropError, OSError, ValueError, KeyError) as error:
            is_intact, detail = False, str(error)
        links.append(Link(f"batch {name}", is_intact, detail))
    digests.save()
    return links
