"""Audit of the run's report (report.html in the registry): people read the verdict there."""

from __future__ import annotations

import json

from tasks import paths
from tasks.audit.subject import Link, Subject, link
from tasks.model_store.logged_files import LOGGED, REPORT_KEY, is_report_of
from tasks.tracking.tags import RESTORED_TAG

NAME = paths.REPORT.name


def check_report(subject: Subject) -> Link:
    """The report must have the bytes that were registered, by the record in the version commit; it is removed if one of its rows
    is erased."""
    content, version = subject.blob(LOGGED), subject.version
    record = json.loads(content) if content else {}
    report, recorded = subject.run_files.get(NAME), record.get(REPORT_KEY)
    if report is None:
        is_rebuilt = RESTORED_TAG in version.tags or record.get("source") != version.source
        if recorded is None or is_rebuilt or subject.has_erasures:
            return link("report", [], _absence(recorded, is_rebuilt))
        return Link("report", False, f"{NAME} is missing in run {version.run_id}")
    if not is_report_of(report, subject.receipt["verdict"]):
        return Link("report", False, f"{NAME} in run {version.run_id} is about another verdict ({report})")
    if REPORT_KEY not in record:
        return link("report", [], "about this verdict; its bytes were not recorded", unrecorded=True)
    if subject.digests.sha256(report) != recorded:
        what = "has changed" if recorded else "was not there when it was registered"
        return Link("report", False, f"{NAME} in run {version.run_id} {what} ({report})")
    return link("report", [], f"{NAME}, {str(recorded)[:12]}, about this verdict")


def _absence(recorded: str | None, is_rebuilt: bool) -> str:
    if recorded is None:
        return "none: no report was logged"
    return "none: the registry was rebuilt" if is_rebuilt else "none: removed, because rows were erased"
