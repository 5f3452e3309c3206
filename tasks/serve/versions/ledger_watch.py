"""Watches the ledger: its files twice a second, by `stat`; it is verified anew, in a thread, when they have changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tasks.errors import StropError, one_line
from tasks.model_store.canaries import canary_of
from tasks.model_store.ledger_chain import ChainNode, ledger_ref
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_remote import follow_if_possible
from tasks.serve.versions.versions import Versions
from tasks.vcs import git

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0
"""Between attempts to read a ledger that could not be read: it may be away, or be restored without a change of these files."""
FOLLOW_SECONDS = 30.0
"""Between requests to the remote that shares the ledger."""

_Result = TypeVar("_Result")
Stamp = tuple[tuple[int, int, int] | None, ...]


class LedgerWatch:
    """
    Args:
        remote: the git remote that shares the ledger; "": none.
        stamp: of the ledger's files; it differs after each change.
    """

    def __init__(
        self, versions: Versions, remote: str = "", stamp: Callable[[], Stamp] | None = None, poll: float = POLL_SECONDS
    ) -> None:
        self._versions, self._remote, self._poll = versions, remote, poll
        self._files: list[Path] = []
        self._stamp = stamp or self._stamp_of_files
        self._seen: Stamp | None = None
        self._problems: dict[str, str] = {}
        self._next_attempt = self._next_follow = 0.0

    async def run(self) -> None:
        """Never returns. No fault of the ledger ends it."""
        while True:
            await self.look()
            await asyncio.sleep(self._poll)

    async def look(self) -> None:
        """Reads the ledger if it has changed, or could not be read before."""
        now = time.monotonic()
        if self._remote and now >= self._next_follow:
            self._next_follow = now + FOLLOW_SECONDS
            await self._try("follow", self._follow)
        stamp = await self._try("stamp", self._stamp)
        is_due = "read" in self._problems and now >= self._next_attempt
        if stamp is not None and (stamp != self._seen or is_due):
            self._next_attempt = now + RETRY_SECONDS
            chain = await self._try("read", self._read)
            self._seen = stamp  # of before: an entry that is appended meanwhile is read with the next look
            if chain is not None:
                self._versions.update([node.entry for node in chain], canary_of(chain))
        self._versions.note_ledger_problem(next(iter(self._problems.values()), None))

    async def _try(self, name: str, work: Callable[[], _Result]) -> _Result | None:
        """Runs it in a thread; None after an error, which is a problem until the same work succeeds."""
        try:
            result = await asyncio.to_thread(work)
        except (StropError, OSError) as error:
            self._problems[name] = f"the ledger cannot be used: {one_line(error)}"
        except Exception as error:
            logger.exception("serve: the ledger could not be read")
            self._problems[name] = f"the ledger cannot be used: {type(error).__name__}"
        else:
            self._problems.pop(name, None)
            return result
        return None

    def _read(self) -> list[ChainNode]:
        return read_verified(self._versions.model)

    def _follow(self) -> None:
        follow_if_possible(self._versions.model, self._remote)

    def _stamp_of_files(self) -> Stamp:
        if not self._files:
            folder = Path(git.run("rev-parse", "--git-common-dir").strip())
            names = (ledger_ref(self._versions.model), "packed-refs", "reftable/tables.list")
            self._files = [(folder / name).absolute() for name in names]
        states = tuple(_state(file) for file in self._files)
        if not any(states):  # no ledger yet, or the project was moved
            self._files = []
        return states


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
