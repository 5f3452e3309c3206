"""The page of a version in the registry (its description in MLflow): Markdown, from its receipt alone.

    describe(registry, 3, page_at(commit) or version_page(receipt, "strop-model", 3))

The page is a file of the version's commit, data/reports/version.md: the audit compares the description with it, whatever a later
release would write. Links to files of the run have the scheme `run:` there, since a rebuilt registry has other runs.
"""

from __future__ import annotations

import logging
from typing import Any

from tasks import paths
from tasks.errors import RegistryError
from tasks.model_store.approvals import CARD, LONGEST_PAGE
from tasks.model_store.description import with_page
from tasks.register.ml_bom import BOM
from tasks.register.model_card import ADAPTERS, hub_id
from tasks.runtime.files import content_digest
from tasks.runtime.plurals import count_of
from tasks.runtime.redaction.known import redact_values
from tasks.runtime.visible_text import printable_markdown
from tasks.state.verdict import outcome_of
from tasks.tracking.registry import Registry
from tasks.tracking.version_links import run_link, with_addresses
from tasks.vcs import git

logger = logging.getLogger(__name__)

LONGEST = 4500
"""Characters of a page: MLflow's database has room for 5,000, and the addresses of the run are longer than `run:`."""
MOST_ROWS = 12
"""Families and templates that are listed; the others are counted."""
LONGEST_NAME = 40
SENTENCES = {
    "passed": "It passed the gate",
    "refused": "The gate refused it",
    "inconclusive": "The gate came to no conclusion",
}
FILES = {CARD: "model card", paths.REPORT.name: "report", BOM: "ML-BOM", paths.RECEIPT.name: "receipt"}
"""File of the run → its name on the page."""

Receipt = dict[str, Any]


def version_page(receipt: Receipt, model: str, number: int) -> str:
    """The page, with links to files of the run as `run:NAME`."""
    receipt = redact_values(receipt)
    parts = [_verdict(receipt), _scores(receipt), _facts(receipt, model, number), _templates(receipt), _links(number)]
    page = "\n\n".join(part for part in parts if part)
    if len(page) <= LONGEST:
        return page
    return "\n\n".join([parts[0], parts[2], parts[4]])


def page_at(commit: str) -> str | None:
    """The page in a version commit; None in commits from before it was recorded."""
    content = git.read_at(commit, paths.VERSION_PAGE)
    return content.decode("utf-8") if content else None


def describe(registry: Registry, number: int, page: str) -> None:
    """Writes the page into the description of a version, unless it is there already. What people wrote around it stays; if there
    is no room for both, the description is as before, and a warning says so."""
    version = registry.version(number)
    description = with_page(version.description, with_addresses(page, registry.experiment_id, version.run_id))
    if version.description == description:
        return
    try:
        registry.describe_version(number, description)
    except RegistryError:
        if len(description) <= LONGEST_PAGE:
            raise
        logger.warning(
            f"register: the description of v{number} has no room for its page: the registry stores at most {LONGEST_PAGE:,} "
            f"characters. Shorten what people wrote there by {len(description) - LONGEST_PAGE:,}, then: strop registry rebuild"
        )


def _verdict(receipt: Receipt) -> str:
    verdict = receipt["verdict"]
    outcome, champion = outcome_of(verdict), verdict.get("champion_version")
    against = f"version {champion}, the champion at that time" if champion else "the base model"
    failed = [check["name"] for check in verdict.get("checks") or () if check["passed"] is False]
    failed = [_name(name) for name in failed[:MOST_ROWS]]
    reason = f" Checks that failed: {', '.join(failed)}." if failed else ""
    rows = count_of(verdict["test_rows"], "test row")
    return f"**{SENTENCES.get(outcome, outcome)}**, compared with {against} on {rows}.{reason}"


def _scores(receipt: Receipt) -> str:
    models = (receipt.get("metrics") or {}).get("models") or {}
    families = _families(models, "candidate")
    if not families:
        return ""
    reference = "champion" if "champion" in models else "base"
    lines = [f"| family | metric | {reference} | this version |", "| --- | --- | --- | --- |"]
    for name, measured in list(families.items())[:MOST_ROWS]:
        before = _families(models, reference).get(name) or {}
        cells = (_name(name), _name(measured.get("measure") or "score"), _score(before), _score(measured))
        lines.append(f"| {' | '.join(cells)} |")
    more = len(families) - MOST_ROWS
    return "\n".join(lines) + (f"\n\nand {count_of(more, 'family', 'families')} more" if more > 0 else "")


def _families(models: dict[str, Any], role: str) -> dict[str, Any]:
    return dict((models.get(role) or {}).get("families") or {})


def _score(measured: dict[str, Any]) -> str:
    if measured.get("score") is None:
        return "–"
    ends = measured.get("interval")
    return f"{measured['score']:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def _facts(receipt: Receipt, model: str, number: int) -> str:
    base, finetune = receipt.get("base") or {}, (receipt.get("params") or {}).get("finetune") or {}
    rows = sum(batch["rows"] for batch in receipt.get("manifest") or () if "rows" in batch)
    method = " ".join(str(finetune[key]) for key in ("objective", "method") if finetune.get(key))
    facts = {
        "base": f"{_name(hub_id(receipt) or 'a local model')}, digest `{str(base.get('digest'))[:16]}`",
        "training": _name(method) + (", an adapter on the base" if finetune.get("method") in ADAPTERS else ""),
        "dataset": f"`{receipt['dataset']}` of {count_of(rows, 'collected row')}",
        "commit": f"tag `{model}@v{number}`, made from `{str(receipt.get('commit'))[:12]}`",
        "weights": f"`{receipt['weights'][:16]}`",
        "receipt": f"`{content_digest(receipt)[:16]}`",
        "input and output": _schema(receipt),
    }
    return "\n".join(f"- {key}: {value}" for key, value in facts.items() if value)


def _schema(receipt: Receipt) -> str:
    """As in the signature of the logged model, which MLflow checks when it serves the model."""
    objective = ((receipt.get("params") or {}).get("finetune") or {}).get("objective")
    if objective == "classify":
        return "a text; its label, and a score from 0 to 1"
    if objective == "reward":
        return "a text, which is a prompt with an answer; a score"
    return "messages of a chat; the message that answers them (`llm/v1/chat`)"


def _templates(receipt: Receipt) -> str:
    templates = receipt.get("templates") or {}
    shown = [f"{_name(name)} `{digest[:12]}`" for name, digest in sorted(templates.items())[:MOST_ROWS]]
    more = len(templates) - MOST_ROWS
    text = ", ".join(shown) + (f", and {more} more" if more > 0 else "")
    return f"Templates of the families: {text}" if shown else ""


def _links(number: int) -> str:
    links = " · ".join(run_link(title, name) for name, title in FILES.items())
    return f"{links} (a rebuilt registry has no report). Check it: `strop audit {number}`"


def _name(text: str) -> str:
    return printable_markdown(text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…")
