"""Who put a version into service or rejected it, when and why, on the version's page in the registry and in its model card.

    record_approvals(registry, version, approvals_of(entries, version.version))

Both texts are written after the receipt, whose digest identifies the version, and belong to no digest: the ledger has the approval
itself. What a person wrote on the page stays.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.errors import RegistryError
from tasks.model_store.ledger_entries import Entry
from tasks.runtime.plurals import count_of
from tasks.runtime.visible_text import printable_markdown
from tasks.tracking.model_versions import Version
from tasks.tracking.registry import Registry

logger = logging.getLogger(__name__)

CARD = "README.md"
"""The model card, a file of the version's run."""
BEGIN, END = "<!-- strop:approval -->", "<!-- /strop:approval -->"
LONGEST_PAGE = 5000
"""Characters of a version's description. PostgreSQL refuses a longer one, SQLite does not."""
_BLOCK = re.compile(rf"\n*{re.escape(BEGIN)}(?:(?!{re.escape(BEGIN)}).)*?{re.escape(END)}\n*", re.DOTALL)
"""Without a second beginning: a marker that a person typed begins no part."""


def approvals_of(entries: Iterable[Entry], version: int) -> list[str]:
    """Each promotion or rejection of a version, and each rollback to it, in words, oldest first."""
    return [entry.approval for entry in entries if entry.version == version and entry.decides]


def approval_blocks(text: str) -> list[str]:
    """The parts with approvals in a text; at most one, unless a person copied it."""
    return [block.strip() for block in _BLOCK.findall(text)]


def possible_blocks(approvals: Sequence[str]) -> set[str]:
    """The parts that these approvals may have on a page: the last ones may not be there yet, the oldest ones may be left out."""
    ends = range(1, len(approvals) + 1)
    return {_block(approvals[:end], start).strip() for end in ends for start in range(end)}


def without_approvals(text: str) -> str:
    return _BLOCK.sub("\n", text)


def with_approvals(text: str, approvals: Sequence[str], longest: int | None = None) -> str:
    """A text in Markdown with the approvals at its end, in place of earlier ones.

    Args:
        longest: characters that there is room for: the oldest approvals are left out, and counted.
    """
    text = without_approvals(text).rstrip("\n")
    for start in range(len(approvals)):
        whole = f"{text}\n\n{_block(approvals, start)}".lstrip("\n")
        if longest is None or len(whole) <= longest:
            return whole
    return text


def on_page(text: str, approvals: Sequence[str]) -> str:
    """The page of a version with the approvals, as long as the registry permits."""
    return with_approvals(text, approvals, LONGEST_PAGE)


def _block(approvals: Sequence[str], start: int) -> str:
    """The approvals from number `start` on."""
    lines = [f"- … {count_of(start, 'earlier one')}"] if start else []
    lines += [f"- {printable_markdown(each)}" for each in approvals[start:]]
    note = "From the ledger (`strop history`), later than the receipt."
    return "\n".join([BEGIN, "## Approval", "", *lines, "", note, END, ""])


def record_approvals(registry: Registry, version: Version, approvals: Sequence[str]) -> None:
    """Writes the approvals where the version's page and model card lack them. Idempotent. If the registry refuses, it is a warning:
    the approval is in the ledger."""
    if not approvals:
        return
    try:
        text = on_page(version.description, approvals)
        if text != version.description:
            registry.describe_version(version.version, text)
        _update_card(registry, version.run_id, approvals)
    except RegistryError as error:
        logger.warning(f"promote: the approval of v{version.version} is not in its model card or on its page: {error}")


def _update_card(registry: Registry, run_id: str, approvals: Sequence[str]) -> None:
    if not registry.has_file(run_id, CARD):
        return  # of a version that was registered before there were cards
    with TemporaryDirectory(prefix="strop-card-") as folder:
        (Path(folder) / "old").mkdir()
        before = registry.download_file(run_id, CARD, Path(folder) / "old").read_text(encoding="utf-8")
        after = with_approvals(before, approvals)
        if after != before:
            card = Path(folder) / CARD
            card.write_text(after, encoding="utf-8")
            registry.log_files(run_id, card)
