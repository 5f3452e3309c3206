"""What the page of an audit shows, from the result of the audit: texts and numbers, without any markup. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flows.report.run_report.verdict_words import sentences
from tasks.audit.stage import AuditResult
from tasks.model_store.ledger_entries import Entry, champion_version, judgement_of, served_until
from tasks.runtime.plurals import count_of
from tasks.state.verdict import outcome_of

Content = dict[str, Any]

MEANINGS = {
    "ledger": "The log of verdicts, promotions, rollbacks and rejections: every entry, and the records that confirm it.",
    "signatures": "Who signed the receipt and the entries of the version in the log, by trusted certificates.",
    "receipt": "The list of everything that the version was made from: the same in git, registry and ledger.",
    "commit": "The commit with the version's code, parameters and receipt.",
    "raw batches": "The rows as they were collected.",
    "dataset": "The rows after validation and curation, with their splits.",
    "parameters": "Every setting of the pipeline.",
    "inputs": "The state that the run began with: pinned base, decisions on rows, test budget, pinned packages.",
    "stages": "Code, contract, templates and parameters that each stage read.",
    "base": "The model that was fine-tuned.",
    "weights": "The weights of the registered model.",
    "model files": "Configuration, tokenizer and templates of the trained model.",
    "registry files": "The files that the registry would load.",
    "training": "The report of the training.",
    "metrics": "The scores of the evaluation.",
    "predictions": "The answers that were scored.",
    "report": "The report of the run, which people read.",
    "other outputs": "Everything else that the stages wrote.",
    "verdict": "The gate's decision on this model, and the approvals of people.",
    "run": "The registry's copies of parameters, metrics, curves and reports.",
    "served path": "The engines, other than that of the evaluation, on which the version was checked before it served there.",
    "alias": "The registry's name of the model in service.",
    "files": "The files of a retired version, which retention removed.",
    "rebuilt dataset": "The dataset, made again from the raw rows.",
    "rebuilt weights": "The weights, trained again from the version's commit.",
}
"""Link → what it is, for readers who do not know the pipeline."""
STATES = {"ok": "matches", "unrecorded": "not recorded", "removed": "removed", "differs": "differs"}


def content_of(result: AuditResult, when: str, strop: str) -> Content:
    """The content of the page.

    Args:
        when: the time of the audit, UTC.
        strop: the version of Strop that made it.
    """
    receipt, entries = result.receipt, [node.entry for node in result.chain]
    return {
        "model": result.model,
        "version": result.version,
        "when": when,
        "strop": strop,
        "is_whole": result.is_whole,
        "summary": _summary(result),
        "walk": _walk(result),
        "outcome": outcome_of(receipt["verdict"]),
        "sentences": sentences(receipt["verdict"]),
        "approvals": [_approval(entry) for entry in entries if entry.version == result.version and entry.kind != "judged"],
        "links": [
            {"name": link.name, "state": STATES[link.state], "detail": link.detail, "meaning": MEANINGS.get(link.name, "")}
            for link in result.links
        ],
        "history": _history(result),
        "serving": champion_version(entries),
        "dataset": receipt["dataset"],
        "sources": _sources(receipt["manifest"]),
        "decisions": receipt["decisions"],
        "base": receipt["base"],
        "facts": _facts(result, judgement_of(entries, result.version)),
        "packages": sorted((receipt["environment"].get("packages") or {}).items()),
    }  # fmt: skip


def _summary(result: AuditResult) -> list[str]:
    """The result of the audit in words."""
    states = [link.state for link in result.links]
    broken = [link.name for link in result.links if link.state == "differs"]
    removed = [link.name for link in result.links if link.state == "removed"]
    older = [link.name for link in result.links if link.state == "unrecorded"]
    lines = [
        f"{states.count('ok')} of {count_of(len(states), 'link')} match what was recorded when the version was registered."
    ]
    if broken:
        lines.append(f"These differ: {', '.join(broken)}. What differs is in the table below.")
    if older:
        lines.append(
            f"These were not recorded then; everything that can be compared is as expected: {', '.join(older)}."
        )
    if removed:
        lines.append("Retention removed the files of this version; the ledger has who decided it, when and why.")
    return lines  # fmt: skip


def _walk(result: AuditResult) -> str:
    if result.is_deep:
        return f"Deep: {_size(result.read_bytes)} were read, every byte of every file on this disk."
    return (
        f"Quick: {_size(result.read_bytes)} were read; the digests of files with unchanged size, times and inode come from "
        "a cache. Only `strop audit --deep` detects damage of the disk itself."
    )


def _approval(entry: Entry) -> Content:
    return {"what": entry.what, "who": entry.who, "when": _time(entry.when), "why": entry.why}


def _history(result: AuditResult) -> list[Content]:
    """Every entry of the ledger, oldest first."""
    entries = [node.entry for node in result.chain]
    ledger = next((link for link in result.links if link.name == "ledger"), None)
    problems = "" if ledger is None or ledger.ok else ledger.detail
    return [
        {
            **_approval(node.entry),
            "version": node.entry.version,
            "gate": node.entry.gate,
            "until": _time(until or ""),
            "dataset": node.entry.dataset[:12],
            "weights": node.entry.weights_digest[:12],
            "commit": node.commit[:12],
            "is_named": node.commit[:7] in problems,
            "is_own": node.entry.version == result.version,
        }
        for node, until in zip(result.chain, served_until(entries), strict=True)
    ]


def _sources(manifest: list[dict[str, Any]]) -> list[Content]:
    """Rows and batches of each source, the largest first."""
    rows: dict[str, int] = defaultdict(int)
    batches: dict[str, int] = defaultdict(int)
    for batch in manifest:
        rows[batch["source"]] += batch["rows"]
        batches[batch["source"]] += 1
    names = sorted(rows, key=lambda name: (-rows[name], name))
    return [{"source": name, "rows": rows[name], "batches": batches[name]} for name in names]


def _facts(result: AuditResult, judgement: Entry | None) -> list[tuple[str, str]]:
    """What identifies the version, and the environment that made it."""
    receipt, hardware = result.receipt, result.receipt.get("hardware") or {}
    environment = receipt["environment"]
    gpus = ", ".join(
        str(gpu.get("name", gpu)) if isinstance(gpu, dict) else str(gpu) for gpu in hardware.get("gpus", ())
    )
    values = {
        "judged": f"{_time(judgement.when)}, by {judgement.who}" if judgement else "",
        "version commit": result.commit,
        "commit of the code": receipt["commit"],
        "weights (sha256)": receipt["weights"],
        "raw rows (DVC)": receipt["raw"],
        "DVC remote": receipt.get("remote", ""),
        "Python": environment.get("python", ""),
        "constraints.txt (sha256)": environment.get("constraints") or "",
        "machine": ", ".join(str(hardware[key]) for key in ("system", "processor") if hardware.get(key)),
        "cores, memory": f"{hardware.get('cores', '?')}, {hardware.get('memory_gb', '?')} GB",
        "GPUs": gpus or "none",
        "threads": str(receipt.get("threads") or ""),
        "seeds": ", ".join(f"{name} {seed}" for name, seed in (receipt.get("seeds") or {}).items()),
        "plugins": ", ".join(f"{name} {digest[:12]}" for name, digest in (receipt.get("plugins") or {}).items()),
    }
    return [(name, str(value)) for name, value in values.items() if value]  # fmt: skip


def _time(moment: str) -> str:
    return moment.replace("T", " ")[:19]


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
