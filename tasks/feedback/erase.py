"""Erases responses, with the feedback on them, from the spool. A server that runs goes on: its present segment ends first.

Their ids stay in `erased.txt`: late feedback on them is refused, and no record of them is written again.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Collection
from pathlib import Path

from tasks.errors import DataError
from tasks.feedback.erased import add_erased
from tasks.feedback.lines import Line, checked_line, read_lines
from tasks.feedback.records import FEEDBACK, RESPONSE
from tasks.feedback.retention import is_written
from tasks.feedback.spool import read_spool, segments
from tasks.runtime.files import replacing

logger = logging.getLogger(__name__)

WAIT_SECONDS = 30.0
"""For a server to end its segment: it looks for erasures every second."""


def erase_responses(spool: Path, responses: Collection[str]) -> int:
    """Removes the records of these responses; returns the number of segments that had some. May be repeated.

    Raises:
        DataError: a server does not end its segment; no other one was left out.
    """
    if not responses:
        return 0
    add_erased(spool, responses)
    open_segments = {path.parent: path for path in segments(spool) if is_written(path.parent)}
    rewritten = sum(_rewrite(path, responses) for path in segments(spool) if path not in open_segments.values())
    for folder, path in open_segments.items():
        _wait_for_its_end(folder, path)
        rewritten += _rewrite(path, responses)
    return rewritten


def with_related(spool: Path, responses: Collection[str]) -> set[str]:
    """The responses with those that may quote them: of the same conversation, and shadow answers to the same request."""
    related = set(responses)
    patterns = {f'"shadow_of":"{response}"' for response in responses}
    for line in read_spool(spool) if responses else ():
        kind, name = line.start
        if kind == RESPONSE and name in responses:
            record = line.record
            related |= {record["shadow_of"]} - {""}
            patterns |= {f'"shadow_of":"{record["shadow_of"]}"'} if record["shadow_of"] else set()
            patterns |= {f'"unit":"{record["unit"]}"'} if record["unit"] else set()
    quotes = re.compile("|".join(map(re.escape, sorted(patterns))).encode())
    lines = read_spool(spool) if patterns else ()
    return related | {line.start[1] for line in lines if line.start[0] == RESPONSE and quotes.search(line.content)}


def _wait_for_its_end(folder: Path, path: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while is_written(folder) and path == max(folder.glob(f"*{path.suffix}"), default=path):
        if time.monotonic() > deadline:
            fix = "Stop that server, or wait until it responds; then complete the erasure: strop rows forget --erase"
            raise DataError("the rows are still in the records of a server", where=str(path), fix=fix)
        time.sleep(0.05)


def _rewrite(path: Path, responses: Collection[str]) -> bool:
    """Whether the segment had records of these responses. It keeps its age; damaged lines may be theirs, and are removed."""
    damage: list[str] = []
    lines = list(read_lines(path, damage=damage))
    kept = [line for line in lines if _response_of(line) not in responses]
    status = path.stat()
    if damage or status.st_size > (lines[-1].end if lines else 0):
        logger.warning(f"erase: damaged records in {path} are removed: they may be of an erased response")
    elif len(kept) == len(lines):
        return False
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(checked_line(line.content) for line in kept))
        temporary.chmod(status.st_mode & 0o777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return len(kept) < len(lines)


def _response_of(line: Line) -> str:
    kind, name = line.start
    return str(line.record["response"]) if kind == FEEDBACK else name
