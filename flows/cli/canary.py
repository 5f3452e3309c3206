"""canary: a version that answers a share of the users, until their ratings decide: start, stop, status."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.cli.common import Json, Why, console, enter_project, print_grid, print_json
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from flows.canary import CanaryState
    from tasks.config import PipelineConfig
    from tasks.model_store.ledger import Entry

app = typer.Typer(help="Let a version answer a share of the users, until their ratings decide.", no_args_is_help=True)


@app.command()
def start(
    version: Annotated[
        int, typer.Argument(min=1, help="A version that passed the gate, or whose verdict is inconclusive.")
    ],
    share: Annotated[
        float | None,
        typer.Option(help="The part of the users' conversations that it answers. Default: serve.canary.share."),
    ] = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Begin a canary: the version answers a share of the conversations, the champion the others.

    `strop serve` promotes it or takes it back by what users' ratings show (`serve.canary`). A version whose verdict is inconclusive
    is promoted only if its verdict kept a level for that (`gate.canary_share`).
    """
    if share is not None and not 0 < share < 1:
        raise typer.BadParameter("--share is between 0 and 1: a tenth is 0.1")
    config = _enter()
    from tasks.promote.canary import begin_canary

    plan = config.serve.canary.plan(config.gate.alpha)
    canary = begin_canary(config, version, plan if share is None else replace(plan, share=share), why or "by hand")
    if as_json:
        print_json({"version": version, "canary": canary.id, "plan": asdict(canary.plan)})
    else:
        plan = canary.plan
        console().print(
            f"Version {version} answers {plan.share:.0%} of the {plan.by}s. See: [bold]strop canary status[/]"
        )


@app.command()
def stop(why: Why = "", as_json: Json = False) -> None:
    """End the canary undecided: the champion answers all users again. Its version may have another one."""
    config = _enter()
    from flows.canary import gateway_records, read_canary
    from tasks.errors import RegistryError
    from tasks.promote.canary import end_canary

    state = read_canary(config, gateway_records)
    if state is None:
        raise RegistryError("no canary runs", where=config.register_.model_name, fix="See: strop history")
    entry = end_canary(config, state.canary, "stopped", state.decision.numbers(), why or "by hand")
    if as_json:
        print_json(asdict(entry))
    else:
        console().print(f"The canary of version {entry.version} is stopped.")


@app.command()
def status(as_json: Json = False) -> None:
    """What the ratings of the canary show: evidence, counts, bounds of the difference, and what is missing for a decision."""
    config = enter_project()
    from flows.canary import gateway_records, read_canary
    from tasks.model_store.ledger import read_ledger
    from tasks.model_store.ledger_remote import follow_if_possible

    follow_if_possible(config.register_.model_name, config.register_.ledger_remote)
    state = read_canary(config, gateway_records)
    entries = read_ledger(config.register_.model_name)
    last = next(
        (e for e in reversed(entries) if e.kind == "canary_ended" or (e.kind == "promoted" and e.details)), None
    )
    if as_json:
        print_json({"running": _facts(state), "last": asdict(last) if last else None})
    elif state is None:
        console().print(f"No canary runs. {_last_line(last)}".rstrip())
    else:
        _print(config, state)


def _enter() -> PipelineConfig:
    config = enter_project()
    from tasks.model_store.ledger_remote import follow_remote

    follow_remote(config.register_.model_name, config.register_.ledger_remote)
    return config


def _facts(state: CanaryState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    canary, decision = state.canary, state.decision
    return {
        "version": canary.version,
        "canary": canary.id,
        "began": canary.entry.when,
        "plan": asdict(canary.plan),
        "decision": decision.kind,
        "why": decision.why,
        "missing": decision.missing,
        **decision.numbers(),
    }


def _last_line(last: Entry | None) -> str:
    return f"The last one: v{last.version} {escape(printable(last.approval))}" if last else ""


def _print(config: PipelineConfig, state: CanaryState) -> None:
    from flows.canary import approval_command
    from tasks.promote.candidates import as_time
    from tasks.serve.canary.decision import end_of

    canary, decision, plan = state.canary, state.decision, state.canary.plan
    evidence, (low, high) = decision.evidence, decision.bounds
    console().print(
        f"[bold]Version {canary.version} answers {plan.share:.0%} of the {plan.by}s[/] since {as_time(canary.entry.when)}, "
        f"version {plan.champion} the others."
    )
    difference = f"{evidence.difference:+.3f}, " if evidence.ratings else ""
    benefit = f" of {1 / plan.level:,.0f}" if plan.level else " (cannot promote it: gate.canary_share)"
    end = as_time(datetime.fromtimestamp(end_of(canary), UTC).isoformat())
    print_grid([
        (f"rated {plan.by}s", f"{evidence.ratings:,}, of them {evidence.of_canary:,} of the canary"),
        ("difference", f"{difference}between {low:+.2f} and {high:+.2f} with {1 - plan.alpha:.0%}"),
        ("evidence of harm", f"{evidence.harm:,.2f} of {1 / plan.alpha:,.0f}"),
        ("evidence of a benefit", f"{evidence.benefit:,.2f}{benefit}"),
        ("undecided after", end),
    ])  # fmt: skip
    for line in decision.missing:
        console().print(f"To {line}", markup=False)
    if decision.kind == "promote" and config.promote.approval == "required":
        console().print(f"It waits for approval: {decision.why}. Decide: {approval_command(canary)}", markup=False)
    elif decision.kind != "go_on":
        console().print(
            f"The next step of `strop serve`: {decision.kind.replace('_', ' ')}, {decision.why}", markup=False
        )
