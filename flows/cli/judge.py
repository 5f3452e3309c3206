"""judge: people's preferences, with which the pairwise judge must agree before it decides."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.common import Json, as_text, console, enter_project, print_json

app = typer.Typer(help="The pairwise judge: people's preferences for it.", no_args_is_help=True)


@app.callback()
def judge() -> None:
    """Makes `import` a subcommand: a single command would have no name."""


@app.command("import")
def import_preferences(
    experiment: Annotated[str, typer.Argument(callback=as_text, help="The MLflow experiment with the traces.")],
    feedback: Annotated[
        str, typer.Option(callback=as_text, help="The name of the feedback, whose value is A, B or tie.")
    ] = "preferred",
    tracking_uri: Annotated[
        str | None, typer.Option(callback=as_text, help="The MLflow server or file. Default: the project's registry.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write people's preferences from MLflow's review to the file of `evaluate.judge.preferences`. Commit it.

    A trace has `question`, `answer_a` and `answer_b`, and optionally `family`, `target` and `row_id`, in its inputs or outputs.
    Only feedback of people (source type HUMAN) counts. Imported again, a trace replaces its line; lines that people wrote stay.
    """
    config = enter_project()
    from pathlib import Path

    from tasks.evaluate.judge.preferences import read_preferences
    from tasks.evaluate.judge.review import preference_of, with_imported
    from tasks.evaluate.judge.settings import DEFAULT_PREFERENCES
    from tasks.runtime.files import replacing
    from tasks.state.erased_traces import read_erased_traces
    from tasks.state.erasures import read_erasures
    from tasks.tracking.registry import tracking_uri as registry_uri
    from tasks.tracking.traces import judged_traces

    settings = config.evaluate.judge
    path = Path(DEFAULT_PREFERENCES if settings is None else settings.preferences)
    read_preferences(path)  # a damaged line is reported before anything is written
    uri = tracking_uri or registry_uri(config)
    traces = list(judged_traces(uri, experiment, with_content=True, only_people=True))
    imported = [line for trace in traces if (line := preference_of(trace, feedback)) is not None]
    before = [line for line in path.read_bytes().splitlines() if line.strip()] if path.is_file() else []
    erased = {row_id for erasure in read_erasures() for row_id in erasure.ids} | read_erased_traces()
    lines, changed = with_imported(before, imported, erased)
    if changed:
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(line + b"\n" for line in lines))
    left_out = len(traces) - len(imported)
    if as_json:
        print_json({"file": str(path), "imported": len(imported), "changed": changed, "left_out": left_out})
        return
    console().print(f"{len(imported):,} preferences, {changed:,} of them new or changed, in {path}: commit it")
    if left_out:
        console().print(f"{left_out:,} judged traces have no pair of answers, or no `{feedback}` that is A, B or tie")
