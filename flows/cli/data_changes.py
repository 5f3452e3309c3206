"""data diff, conflicts and drift: how the dataset changed between two versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.common import Json, console, enter_project, enter_root, print_json
from tasks.errors import DataError


def diff(
    first: Annotated[str | None, typer.Argument(help="A version (v1), or `now`. Default: the newest version.")] = None,
    second: Annotated[str, typer.Argument(help="A version (v2), or `now`.")] = "now",
    as_json: Json = False,
) -> None:
    """Rows that were added, removed or changed, and inputs with another answer, between the datasets of two versions."""
    config = enter_project()
    from tasks.lineage.diff import difference

    first = first or _newest_version(config.register_.model_name)
    changes = difference(config.register_.model_name, first, second)
    kinds = ("added", "removed", "edited", "moved", "other_answer")
    if as_json:
        facts: dict[str, Any] = {"before": changes.before, "after": changes.after}
        for name in kinds:
            kind = getattr(changes, name)
            pairs = sorted(kind.by.items())
            by = [{"family": family, "source": source, "rows": count} for (family, source), count in pairs]
            facts[name] = {"rows": kind.rows, "by": by, "examples": kind.examples}
        print_json(facts)
        return
    from rich.text import Text

    out = console()
    out.print(f"{first}: {changes.before:,} rows · {second}: {changes.after:,} rows", markup=False)
    for name in kinds:
        kind = getattr(changes, name)
        counts = ", ".join(f"{family} from {source} {count:,}" for (family, source), count in kind.by.most_common(6))
        out.print(Text(f"{kind.rows:>10,}  {name.replace('_', ' '):<13} {counts}"))
        for row in kind.examples[:2]:
            prompt = " ".join(f"{row['instruction']} {row['input']}".split())
            before = " ".join(row.get("output_before", "").split())[:60]
            was = f" ({'another row answers' if name == 'other_answer' else 'was'}: {before})" if before else ""
            output = " ".join(row["output"].split())[:50]
            out.print(Text(f"              {row['row_id'][:8]}  {prompt[:70]} → {output}{was}", "dim"))


def _newest_version(model: str) -> str:
    from tasks.lineage.version_data import registered_versions

    numbers = registered_versions(model)
    if not numbers:
        raise DataError("no version yet to compare with", where=model, fix="Create one: strop run")
    return f"v{numbers[-1]}"


def conflicts(as_json: Json = False) -> None:
    """Prompts for which a source has several answers. `curate.conflicts` sets which answers are kept."""
    enter_root()
    from tasks.lineage.conflicts import conflicts as read_conflicts
    from tasks.runtime.plurals import count_of

    prompts = read_conflicts()
    if as_json:
        print_json([asdict(prompt) for prompt in prompts])
        return
    from rich.text import Text

    out = console()
    for prompt in prompts:
        out.print(Text(f"{prompt.source}: {prompt.prompt[:100]}"))
        for answer in prompt.answers:
            shown = " ".join(answer["output"].split())[:70]
            out.print(Text(f"    {answer['row_id'][:8]}  {answer['batch'][:8]}  {answer['split']:<5}  {shown}", "dim"))
    out.print(f"{count_of(len(prompts), 'prompt')} with several answers", markup=False)


def drift(
    first: Annotated[str | None, typer.Argument(help="A version (v1). Default: the champion.")] = None,
    second: Annotated[str, typer.Argument(help="A version (v2), or `now`.")] = "now",
    as_json: Json = False,
) -> None:
    """Drift of the training data: labels, lengths, words, languages (PSI and Jensen-Shannon), with a plot."""
    config = enter_project()
    from tasks.lineage.drift_report import champion_name, report_drift

    model = config.register_.model_name
    first = first or champion_name(model)
    if first is None:
        raise DataError("no version serves yet", where=model, fix="Give two versions: strop data drift v1 now")
    facts, plot = report_drift(model, first, second)
    if as_json:
        print_json(facts)
        return
    from rich.markup import escape

    out = console()
    before, after = facts["rows"]
    out.print(f"{facts['first']}: {before:,} rows · {facts['second']}: {after:,} rows", markup=False)
    styles = {"steady": "green", "minor": "yellow", "major": "red"}
    for measure in facts["drift"]:
        level = f"[{styles[measure['level']]}]{measure['level']:<6}[/]"
        few = "   few rows" if measure["level"] != "steady" and measure["may_be_chance"] else ""
        numbers = f"PSI {measure['psi']:7.3f}   JS {measure['js']:6.3f}{few}"
        out.print(f"  {level} {escape(measure['family']):<14} {escape(measure['what']):<14} {numbers}")
    for name, shares in facts["shares"].items():
        out.print(f"  {name}: {shares['refused']:.1%} refused, {shares['duplicates']:.1%} duplicates", markup=False)
    if facts["compared_rows"] != facts["training_rows"]:
        some, of = facts["compared_rows"], facts["training_rows"]
        out.print(f"  a sample: {some[0]:,} of {of[0]:,} and {some[1]:,} of {of[1]:,} training rows, by hash rank")
    out.print(f"Plot: {plot}", markup=False)
