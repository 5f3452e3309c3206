"""The history of a row on the terminal, for `rows why` and `audit --row`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flows.cli.common import console
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from tasks.lineage.row_history import Copy, RowHistory


def versions_by_use(history: RowHistory) -> dict[str, list[int]]:
    """Use of the row → the versions that used it so."""
    from tasks.lineage.row_history import IN_WEIGHTS, LEFT_OUT

    uses: dict[str, list[int]] = {"trained": [], "validated": [], "tested": [], "left_out": []}
    names = {LEFT_OUT: "left_out", "valid": "validated", **dict.fromkeys(IN_WEIGHTS, "trained")}
    for version, split in sorted(history.versions.items()):
        uses[names.get(split, "tested")].append(version)
    return uses


def print_history(history: RowHistory) -> None:
    from rich.text import Text

    out = console()
    out.print(f"[bold]{history.row_id}[/]")
    if not history.copies:
        out.print("  was erased: its text no longer exists")
    for name in ("family", "language", "system", "instruction", "input", "output"):
        if text := history.content.get(name):
            out.print(Text.assemble((f"  {name:<12}", "dim"), " ".join(printable(str(text)).split())[:300]))
    if served := history.content.get("served"):
        out.print(Text(f"  {_served(json.loads(served))}"))
    for copy in history.copies:
        out.print(Text(f"\nfrom {copy.file} line {copy.line}, source {copy.source}, batch {copy.batch}"))
        out.print(Text(f"  {_describe(copy)}"))
    for decision in history.decisions:
        out.print(Text(f"  {decision.when[:16].replace('T', ' ')}  {decision.what} by {decision.who}: {decision.why}"))
    uses = versions_by_use(history)
    held_out = f"held out by: {_names(sorted(uses['tested'] + uses['validated']))}"
    if uses["left_out"]:
        held_out += f" · left out by: {_names(uses['left_out'])}"
    out.print(f"\ntrained on by: {_names(uses['trained'])} · {held_out}")


def print_uses(history: RowHistory) -> None:
    """What the held-out row was used for."""
    uses = versions_by_use(history)
    console().print(f"tested on by: {_names(uses['tested'])} · validated on by: {_names(uses['validated'])}")


def _served(origin: dict[str, Any]) -> str:
    """The answer that the row corrects or rates, and who did so."""
    shadow = ", which nobody saw (shadow)" if origin.get("is_shadow") else ""
    who = ", ".join(str(user)[:8] for user in origin.get("who", []))
    source = ", ".join(map(str, origin.get("source", [])))
    text = f"answer {origin['response']} of {origin.get('model', '?')} ({origin.get('engine', '?')}){shadow}"
    comments = "".join(f"\n  comment: {comment}" for comment in origin.get("comments", []))
    return printable(f"served:     {text}\n  feedback:   {source} {who}, {origin.get('when', '?')}") + printable(
        comments
    )


def _names(versions: list[int]) -> str:
    return ", ".join(f"v{version}" for version in versions) or "no version"


def _describe(copy: Copy) -> str:
    if copy.state == "kept":
        return f"kept, in split {copy.split}" + (f", with group {copy.group}" if copy.group else "")
    if copy.state == "left out":
        rule = f" ({copy.detail})" if copy.detail else ""
        return f"kept, in split {copy.split}, but left out by render: {copy.reason}{rule}"
    reason = f" by {copy.room}: {copy.reason}" if copy.reason else ""
    return f"{copy.state}{reason}" + (f" ({copy.detail[:200]})" if copy.detail else "")
