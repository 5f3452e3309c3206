"""Writes the page of an audit: one file without scripts and without requests, in which every text is escaped.

write_page(result, Path("audit-v3.html"))
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flows.report.audit_report.content import Content, content_of
from flows.report.run_report import page as run_report
from tasks.audit.stage import AuditResult
from tasks.errors import DiskError
from tasks.runtime.files import write_text

FOLDER = Path(__file__).parent


def write_page(result: AuditResult, path: Path) -> None:
    """Raises DiskError if the file cannot be written."""
    page = render(content_of(result, datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"), _strop()))
    try:
        write_text(path, page)
    except OSError as error:
        what = f"the report of the audit cannot be written ({error.strerror or error})"
        raise DiskError(what, where=str(path), fix="Name a file in a folder that you may write to") from error


def render(content: Content) -> str:
    style = "\n".join((folder / "page.css").read_text(encoding="utf-8") for folder in (run_report.FOLDER, FOLDER))
    return run_report.page_template(FOLDER).render(**run_report.clean(content), style=style)


def _strop() -> str:
    try:
        return version("strop")
    except PackageNotFoundError:
        return "unknown"
