"""Writes the report of a run to data/reports/report.html.

    write_report(config)

The page has no request to any host: style and script are inline, and its policy (CSP) allows this one script only. Every text is
escaped: texts of rows, labels and answers are input from strangers. Equal reports give equal bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from flows.report.run_report import svg
from flows.report.run_report.content import Content, read_content
from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import StropError
from tasks.runtime.files import write_text
from tasks.runtime.redaction.known import redact_values
from tasks.runtime.visible_text import printable

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent


def write_report(config: PipelineConfig) -> Path | None:
    """Writes the report; None if that failed, which is logged: a report never stops a run, and an older one does not stay."""
    paths.REPORT.unlink(missing_ok=True)
    try:
        write_text(paths.REPORT, render(read_content(config)))
    except Exception as error:  # noqa: BLE001
        what = str(error) if isinstance(error, StropError) else f"{type(error).__name__}: {error}"
        logger.warning(f"report: not written: {what}")
        return None
    return paths.REPORT


def render(content: Content) -> str:
    safe = clean(content)
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return page_template(FOLDER).render(
        **safe,
        plots=svg,
        scale=svg.scale_of(safe["checks"]),
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        policy=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        data=as_script(safe["answers"]),
    )


def page_template(folder: Path) -> Template:
    """The template page.html of a folder, which escapes every text."""
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, **options)
    return environment.get_template("page.html")


def clean(value: Any) -> Any:
    """The value with control and bidirectional characters escaped in every text, and known secrets removed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return clean({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {clean(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    return printable(str(redact_values(value))) if isinstance(value, str) else value


def as_script(value: Any) -> str:
    """JSON that is safe within a script element: no character of it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
