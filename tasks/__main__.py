"""Runs one room in a process of its own: `python -m tasks curate`. DVC runs the stages so; `ingest` is run so by hand.

Exit code 0: done (a refusal by the gate too: it is a result). 1: the user's situation, told in one line.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator

ROOMS = ("ingest", "validate", "curate", "render", "finetune", "evaluate", "gate")

HELP = """usage: python -m tasks STAGE

One stage, in this process, on what lies in data/. In this order:

  ingest     what is new at the sources, into data/raw
  validate   data/raw by the contract: accepted rows, and quarantine
  curate     cleaned, without duplicates, and split, into data/curated
  render     token ids and loss masks, into data/rendered
  finetune   data/rendered and the base, into data/model
  evaluate   the base, the champion and the candidate on the test rows
  gate       the verdict, into data/reports/verdict.json

DVC does not know of it. To bring a stage and all before it up to date, and have that recorded: dvc repro STAGE (after ingest).
All of it, with registration and promotion: strop run"""


def main() -> int:
    from tasks.errors import StropError, told_by_disk
    from tasks.runtime.fast_imports import importing
    from tasks.runtime.loopback import exempt_loopback_from_proxies
    from tasks.runtime.parent_watchdog import SECONDS_TO_SAVE, end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    if len(sys.argv) != 2 or sys.argv[1] not in ROOMS:
        is_help = sys.argv[1:] in (["--help"], ["-h"], ["help"])
        print(HELP, file=sys.stdout if is_help else sys.stderr)
        return 0 if is_help else 2
    room = sys.argv[1]
    # libraries' bars and deprecations would bury our own lines
    os.environ.setdefault("TQDM_DISABLE", "1")
    # waiting threads spin for long by default, and take the cores from each other where anything else runs; sleeping at
    # once would halve the speed of a quiet machine (docs/decisions/0005)
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    warnings.simplefilter("ignore", FutureWarning)
    exempt_loopback_from_proxies()
    try:
        with _libraries_of_strop(), importing():
            end_with_parent(SECONDS_TO_SAVE)
            from tasks.config import load_config

            stage = importlib.import_module(f"tasks.{room}.stage")
        stage.run(load_config())
    except StropError as error:
        print(f"strop: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception as error:
        if told := told_by_disk(error):
            print(f"strop: {told}", file=sys.stderr, flush=True)
            return 1
        raise
    except KeyboardInterrupt:  # Ctrl-C reaches the stage as well as the command, which tells of it
        return 130
    return 0


@contextlib.contextmanager
def _libraries_of_strop() -> Iterator[None]:
    """Tells which Python it is that has none."""
    from tasks.errors import StropError

    try:
        yield
    except ModuleNotFoundError as error:
        what = f"has no {error.name}: it is not the Python of Strop's environment"
        fix = "Activate that first (source .venv/bin/activate), or let `strop run` start the stages"
        raise StropError(what, where=sys.executable, fix=fix) from error


if __name__ == "__main__":
    sys.exit(main())
