"""Runs one room in a process of its own: `python -m tasks curate`. DVC runs stages this way; `ingest` can be run by hand.

Exit code 0: done (also if the gate refuses: that is a result). 1: an error that the user can fix, reported in one line.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator

logger = logging.getLogger("tasks.__main__")  # `__name__` is "__main__" here

ROOMS = ("ingest", "validate", "curate", "render", "finetune", "evaluate", "gate")

HELP = """usage: python -m tasks STAGE

Run one stage in this process on the files in data/. In this order:

  ingest     collect new rows from the sources into data/raw
  validate   check data/raw against the contract: accepted rows, and quarantine
  curate     clean, deduplicate and split rows, into data/curated
  render     make token ids and loss masks, into data/rendered
  finetune   train the base on data/rendered, into data/model
  evaluate   evaluate the base, the champion and the candidate on the test rows
  gate       decide about promotion, into data/reports/verdict.json

DVC does not record this. To bring a stage and all stages before it up to date, with a record: dvc repro STAGE (after ingest).
The whole pipeline, with registration and promotion: strop run"""


def main() -> int:
    from tasks.errors import StropError, disk_error
    from tasks.runtime.fast_imports import importing
    from tasks.runtime.logs.formats import error_fields
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.loopback import exempt_loopback_from_proxies
    from tasks.runtime.parent_watchdog import SECONDS_TO_SAVE, end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    if len(sys.argv) != 2 or sys.argv[1] not in ROOMS:
        is_help = sys.argv[1:] in (["--help"], ["-h"], ["help"])
        print(HELP, file=sys.stdout if is_help else sys.stderr)
        return 0 if is_help else 2
    room = sys.argv[1]
    set_up_logs(room)
    # progress bars and deprecation warnings of libraries would hide our messages
    os.environ.setdefault("TQDM_DISABLE", "1")
    # by default waiting threads spin for a long time, and take cores from other work; without any spinning an idle machine
    # would be half as fast (docs/decisions/0005)
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    warnings.simplefilter("ignore", FutureWarning)
    exempt_loopback_from_proxies()
    try:
        with _require_libraries(), importing():
            end_with_parent(SECONDS_TO_SAVE)
            from tasks.config import load_config

            stage = importlib.import_module(f"tasks.{room}.stage")
        began = time.monotonic()
        config = load_config()
        from tasks.state.input_folders import begin_input_folders
        from tasks.vcs.dvc_plugins import record_plugins, require_recorded

        if room == "ingest":
            record_plugins()
            begin_input_folders()
        else:
            require_recorded(room)
        stage.run(config)
        logger.debug(f"{room}: done in {time.monotonic() - began:.1f} s")
    except StropError as error:
        logger.error(f"strop: {error}", extra=error_fields(error))
        return error.exit_code
    except Exception as error:
        if problem := disk_error(error):
            logger.error(f"strop: {problem}", extra=error_fields(problem))
            return 1
        raise
    except KeyboardInterrupt:  # Ctrl-C also reaches the command, which reports it
        return 130
    return 0


@contextlib.contextmanager
def _require_libraries() -> Iterator[None]:
    """Reports the Python interpreter that lacks Strop's libraries."""
    from tasks.errors import StropError

    try:
        yield
    except ModuleNotFoundError as error:
        what = f"has no {error.name}: it is not the Python of Strop's environment"
        fix = "Activate that first (source .venv/bin/activate), or let `strop run` start the stages"
        raise StropError(what, where=sys.executable, fix=fix) from error


if __name__ == "__main__":
    sys.exit(main())
