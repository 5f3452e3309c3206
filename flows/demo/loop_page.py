"""The story of the loop for the terminal: which version answered how many requests, how well, and when."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Column

from flows.demo.served_counts import Counts, Minute, VersionCounts, by_minute, by_version
from flows.demo.traffic import Exchange
from tasks.runtime.console import table_of
from tasks.runtime.plurals import count_of

BAR = 20


def loop_page(exchanges: Sequence[Exchange], learned: Sequence[str], picture: str) -> RenderableType:
    versions = by_version(exchanges, learned)
    answered = sum(each.requests for each in versions if each.version)
    lost = sum(each.feedback == "lost" for each in exchanges)
    title = f"{answered} of {count_of(len(exchanges), 'request')} answered"
    page: list[RenderableType] = [
        "",
        Rule("[bold]The loop[/]", align="left", style="cyan"),
        f"\n[bold cyan]{title}[/]",
        Padding(_versions(versions), (0, 0, 0, 2)),
        "\n[bold cyan]Right answers about the new sections, minute by minute[/]",
        Padding(_minutes(by_minute(exchanges, learned)), (0, 0, 0, 2)),
    ]
    if lost:
        page.append(f"\n[bold red]{count_of(lost, 'piece')} of feedback not accepted[/]")
    return Group(*page, f"\n[dim]Picture: {picture}[/]", "")


def _versions(versions: Sequence[VersionCounts]) -> RenderableType:
    right = [Column(name, justify="right") for name in ("answers", "learned sections", "new sections")]
    feedback = [Column(name, justify="right") for name in ("corrected", "rated")]
    table = table_of("", "from", "to", *right, *feedback)
    for each in versions:
        table.add_row(
            f"version {each.version}" if each.version else "no answer",
            _clock(each.first),
            _clock(each.last),
            str(each.requests),
            _share(each.learned),
            _share(each.new),
            str(each.corrections),
            str(each.ratings),
        )
    return table


def _minutes(minutes: Sequence[Minute]) -> RenderableType:
    table = table_of(Column("minute", justify="right"), "", Column("right", justify="right"), "")
    for each in minutes:
        share = each.new.share
        bar = "" if share is None else "█" * round(share * BAR) + "·" * (BAR - round(share * BAR))
        name = f"version {each.version}" if each.version else "no answer"
        table.add_row(str(each.minute + 1), name, _share(each.new), bar)
    return table


def _share(counts: Counts) -> str:
    return "–" if counts.share is None else f"{counts.right} of {counts.answers} · {counts.share:.0%}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
