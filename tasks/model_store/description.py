"""The description of a version in the registry: the page that Strop made, its approvals, and what people wrote around them.

    text = with_page(version.description, page)         # a new or repaired page; people's text stays
    is_intact(version.description, page, approvals)     # for the audit

Strop's parts are between markers, and only they are checked. The page of a version from before there were markers is recognised by
its text, whatever run its links lead to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.model_store.approvals import approval_blocks, possible_blocks, without_approvals
from tasks.tracking.version_links import with_any_addresses

BEGIN, END = "<!-- strop:page -->", "<!-- /strop:page -->"
_BLOCK = re.compile(rf"{re.escape(BEGIN)}(?:(?!{re.escape(BEGIN)}).)*?{re.escape(END)}", re.DOTALL)
"""Without a second beginning: a marker that a person typed begins no part."""


def with_page(description: str, page: str) -> str:
    """The description with this page in the place of an earlier or damaged one; without one, in front of the text."""
    block = _block(page)
    for earlier in (_BLOCK, re.compile(with_any_addresses(page))):
        if earlier.search(description):
            first, rest = earlier.split(description, maxsplit=1)
            return first + block + earlier.sub("", rest)  # a second one is a copy
    return f"{block}\n\n{description}" if description.strip() else block


def people_wrote(description: str, page: str) -> bool:
    """Whether there is text outside of Strop's parts."""
    return bool(_BLOCK.sub("", without_approvals(description)).replace(page.strip(), "").strip())


def is_intact(description: str, page: str, approvals: Sequence[str]) -> bool:
    """Whether Strop's parts are this page, once, and the first of these approvals.

    Args:
        approvals: those of the ledger. A promotion that was killed, or refused by the registry, is not in the description yet.
    """
    pages = _BLOCK.findall(description)
    if pages not in ([_block(page)], []) or (not pages and page.strip() not in description):
        return False
    allowed = possible_blocks(approvals)
    return approval_blocks(description) in ([], *([block] for block in allowed))


def _block(page: str) -> str:
    return f"{BEGIN}\n{page.strip()}\n{END}"
