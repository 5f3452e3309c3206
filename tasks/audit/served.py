"""Audit of a version's served-path checks: the registry's tags and the file of its run, which belong to no receipt."""

from __future__ import annotations

from tasks.audit.subject import Link, Subject, link
from tasks.model_store.served_checks import SERVED_FILE, checks_in, describe, served_problems


def check_served(subject: Subject) -> Link:
    """Lists the engines on which the version was checked."""
    path = subject.run_files.get(SERVED_FILE)
    checks = checks_in(path) if path is not None else {}
    problems = [*served_problems(subject.version.tags, checks, subject.receipt["weights"])]
    lines = [describe(check) for _, check in sorted(checks.items(), key=lambda pair: str(pair[1].get("when")))]
    return link("served path", problems, "; ".join(lines) or "no engine beside the embedded one was checked")
