"""The command `strop`. Each command is a small function in a module of this folder; `--help` imports no heavy library.

Exit codes: 0 done, 1 an error that the user can fix (one line with what, where and fix), 2 wrong usage, 3 the gate
refused or could not decide.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows.cli import (
    audit,
    bom,
    build,
    canary,
    chat,
    check,
    compare,
    contract,
    data,
    data_changes,
    explain,
    gc,
    generate,
    inspect,
    judge,
    promote,
    quarantine,
    registry,
    reproduce,
    rows,
    serve,
    sign,
)
from flows.cli import run as running
from flows.cli.common import begin, unwrap_help
from tasks.errors import StropError, disk_error
from tasks.runtime.logs.formats import error_fields
from tasks.runtime.logs.setup import FORMAT, LEVEL, is_json, set_up_logs
from tasks.runtime.terminal_text import prepare_streams

logger = logging.getLogger("flows.cli.main")  # `__name__` may be "__main__"

HELP = "Retrains an instruction-tuned model on new data, and promotes only significant improvements."


WITH_VALUE = ("--project", "--log-format")
FLAGS = ("--verbose", "-v", "--quiet", "-q")
"""The options that are valid for all commands."""


class Terminated(BaseException):
    """SIGTERM."""


INTERRUPTED = 130
"""Typer's exit code for Ctrl-C."""
LAST_SECONDS = 15.0
"""The time limit for exit handlers of libraries: after Ctrl-C Prefect may wait forever to send its last logs."""
STOPPED = "stopped. Finished work is kept: the next `strop run` continues there."

COMMANDS: dict[str, tuple[Callable[..., int | None], ...]] = {
    "Retraining": (check.check, running.run, running.demo, running.schedule),
    "Inspecting": (
        inspect.status,
        inspect.history,
        compare.compare,
        explain.explain,
        audit.audit,
        reproduce.reproduce,
        sign.sign,
        bom.bom,
        inspect.config,
        inspect.doctor,
    ),
    "Serving": (
        serve.serve,
        generate.generate,
        chat.chat,
        promote.approve,
        promote.reject,
        promote.promote,
        promote.rollback,
        gc.gc,
    ),
}
"""Panel of `strop --help` → its commands, each a function whose name is the command; it returns an exit code, or None for 0."""
GROUPS = {
    "quarantine": (quarantine.app, "Data"),
    "contract": (contract.app, "Data"),
    "rows": (rows.app, "Data"),
    "data": (data.app, "Data"),
    "judge": (judge.app, "Data"),
    "registry": (registry.app, "Serving"),
    "canary": (canary.app, "Serving"),
}
"""Name → its subcommands, and the panel."""

app = typer.Typer(
    help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True, rich_markup_mode="rich"
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for name, (group, panel) in GROUPS.items():
    app.add_typer(group, name=name, rich_help_panel=panel)
for command in (data_changes.diff, data_changes.conflicts, data_changes.drift, build.build):
    data.app.command()(command)
unwrap_help(app)


@app.callback()
def enter(
    project: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The project folder. Default: the project of the working directory."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log details, with time and module.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log only warnings and errors.")] = False,
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option("--log-format", help="Log lines as text or as JSON objects. Default: text."),
    ] = None,
) -> None:
    """Changes to the project and sets up the log, at any position of these options in the command line."""
    if verbose and quiet:
        raise typer.BadParameter("Give either -v or -q.")
    # in the environment, for child processes
    if verbose or quiet:
        os.environ[LEVEL] = "debug" if verbose else "warning"
    if log_format:
        os.environ[FORMAT] = log_format
    set_up_logs()
    if project is None:
        return
    try:
        os.chdir(project)
    except OSError as error:
        what = f"cannot change to this folder ({error.strerror})"
        raise StropError(what, where=str(project), fix="Fix --project") from error


def main() -> None:
    prepare_streams()
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)  # deprecations in libraries
    code = run(sys.argv[1:], began=_process_start())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    last = threading.Timer(LAST_SECONDS, os._exit, (code,))
    last.daemon = True
    last.start()
    sys.exit(code)


def _process_start() -> float:
    """The start time of this process: on a busy machine, seconds before this line runs."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):  # not on Linux
        return time.time()


def run(arguments: list[str], began: float | None = None) -> int:
    """Runs a command line and returns its exit code."""
    begin(time.time() if began is None else began)
    set_up_logs()
    signal.signal(signal.SIGTERM, _stop)
    try:
        result: Any = app(_global_options_first(arguments), prog_name="strop", standalone_mode=False)
        if result == INTERRUPTED:
            return _fail(STOPPED)
        return result if isinstance(result, int) else 0
    except StropError as error:
        logger.debug("the origin of this error", exc_info=error)
        return _fail(error, error.exit_code)
    except BrokenPipeError:  # `strop history | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Terminated:
        return _fail(STOPPED)
    except typer.Abort:  # a confirmation that was not given
        return _fail("nothing was changed.")
    except typer.TyperException as error:
        return _report_usage(error)
    except Exception as error:
        if problem := disk_error(error):  # from any library
            return _fail(problem)
        raise


def _global_options_first(arguments: list[str]) -> list[str]:
    """Converts `strop run --project X -v` to `strop --project X -v run`."""
    first: list[str] = []
    others: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            others += [argument, *waiting]
        elif argument in WITH_VALUE:
            first += [argument, *itertools.islice(waiting, 1)]
        elif argument in FLAGS or argument.startswith(tuple(f"{name}=" for name in WITH_VALUE)):
            first.append(argument)
        else:
            others.append(argument)
    return [*first, *others]


def _fail(reason: str | StropError, exit_code: int = 1) -> int:
    logger.error(f"strop: {reason}", extra=error_fields(reason) if isinstance(reason, StropError) else {})
    return exit_code


def _report_usage(error: typer.TyperException) -> int:
    """Reports a wrong command line."""
    if is_json():
        return _fail(error.format_message(), error.exit_code)
    from typer.rich_utils import rich_format_error

    rich_format_error(error)  # type: ignore[arg-type]
    return error.exit_code


def _stop(*_: object) -> None:
    raise Terminated


if __name__ == "__main__":
    main()
