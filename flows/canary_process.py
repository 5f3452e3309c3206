"""The process of the canary's controller beside `strop serve`: `python -m flows.canary_process`, in the project.

    run(config, factory, settings, [canary_process()])

A process of its own, as a step reads all records of the spool, and a decision needs MLflow.
"""

from __future__ import annotations

import os

from tasks.serve.own_code import own_command
from tasks.serve.side_process import SideProcess, end_with_input

END_SECONDS = 30.0
"""For a step under way, such as a promotion. If it is interrupted, the ledger has it or not, and the registry follows later."""
NICENESS = 5
"""Answers to users come first."""


def canary_process() -> SideProcess:
    name, command = "the controller of canaries", own_command("flows.canary_process")
    return SideProcess(name, command, close_seconds=END_SECONDS + 5)


def main() -> None:
    from flows.canary import gateway_records, watch
    from tasks.config import load_config
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    set_up_logs("serve")
    ended = end_with_input(END_SECONDS)
    os.nice(NICENESS)
    watch(load_config(), gateway_records, ended)


if __name__ == "__main__":
    main()
