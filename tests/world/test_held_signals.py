"""A forked process does not run the handlers of its parent."""

from __future__ import annotations

import os
import signal

from tasks.runtime.held_signals import release_signals, signals_held


def test_a_child_that_is_ended_before_it_has_handlers_runs_none_of_its_parent() -> None:
    runs: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: runs.append(number))
    try:
        with signals_held():
            child = os.fork()
            if not child:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                if not runs:
                    release_signals()
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # here the handler works as before
        assert runs == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
