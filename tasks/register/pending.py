"""Whether the verdict on disk needs further work. Runs before any heavy import: git and JSON only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.model_store.ledger import Entry, champion_of, champion_version, is_mirrored, read_ledger
from tasks.model_store.ledger_entries import decision_of
from tasks.runtime.files import content_digest, read_object
from tasks.vcs import dvc_outputs

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def pending(config: PipelineConfig | None = None) -> bool:
    """Whether the candidate must still be registered or promoted, or the alias must still be set."""
    if config is None:
        from tasks.config import load_config

        config = load_config()
    model = config.register_.model_name
    entries = read_ledger(model)
    champion = champion_of(entries)
    if champion is not None and not is_mirrored(model, champion.version):
        return True
    verdict = read_object(paths.VERDICT)
    if not verdict or not paths.MODEL.is_dir():
        return False
    if champion is not None and champion.weights_digest == verdict.get("candidate_digest"):
        return False
    entry = _entry_of(entries, verdict)
    if entry is None:
        return True
    return entry.passed and config.promote.approval == "none" and _may_still_be_promoted(entry, entries, verdict)


def _entry_of(entries: list[Entry], verdict: dict[str, Any]) -> Entry | None:
    digest, dataset = content_digest(verdict), dvc_outputs.dataset_version()
    return next((e for e in entries if e.kind == "judged" and e.verdict == digest and e.dataset == dataset), None)


def _may_still_be_promoted(entry: Entry, entries: list[Entry], verdict: dict[str, Any]) -> bool:
    """Not if it was promoted or rejected before, nor if another champion serves than the one it was judged against."""
    return decision_of(entries, entry.version) is None and champion_version(entries) == verdict.get("champion_version")
