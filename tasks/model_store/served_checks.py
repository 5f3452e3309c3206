"""The served-path checks of a version in the registry: a tag for each engine, and the file `served.json` of its run.

record_served(registry, version, "1f2e3d4c5b6a", check)

Both are written after the receipt, and belong to no digest, as approvals do not (approvals.py). The audit lists them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.tracking.model_versions import Version
from tasks.tracking.registry import Registry
from tasks.tracking.tags import SERVED_TAG

SERVED_FILE = "served.json"
PASSED, FAILED = "passed", "failed"


def record_served(registry: Registry, version: Version, engine: str, check: Mapping[str, Any]) -> None:
    """Writes a check in place of an earlier one with the same engine.

    Args:
        engine: the digest of the engine.
        check: as JSON, with `passed`.
    """
    with TemporaryDirectory(prefix="strop-served-") as folder:
        checks: dict[str, Any] = {}
        if registry.has_file(version.run_id, SERVED_FILE):
            (Path(folder) / "old").mkdir()
            checks = checks_in(registry.download_file(version.run_id, SERVED_FILE, Path(folder) / "old"))
        path = Path(folder) / SERVED_FILE
        text = json.dumps({**checks, engine: dict(check)}, ensure_ascii=False, indent=2, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")
        registry.log_files(version.run_id, path)
    registry.set_version_tags(version.version, {tag_of(engine): _outcome(check)})


def tag_of(engine: str) -> str:
    return f"{SERVED_TAG}{engine}"


def checks_in(path: Path) -> dict[str, Any]:
    """Digest of an engine → its check; empty where the file is damaged."""
    try:
        checks = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return (
        {name: check for name, check in checks.items() if isinstance(check, dict)} if isinstance(checks, dict) else {}
    )


def served_problems(tags: Mapping[str, str], checks: Mapping[str, Any], weights: str) -> Iterator[str]:
    """Where tags and file of a version disagree, or a check is about other weights."""
    tagged = {name.removeprefix(SERVED_TAG): value for name, value in tags.items() if name.startswith(SERVED_TAG)}
    for engine in sorted({*tagged, *checks}):
        check = checks.get(engine)
        if check is None:
            yield f"{SERVED_FILE} lacks the check of the tag {tag_of(engine)}"
        elif tagged.get(engine) != _outcome(check):
            yield f"the tag {tag_of(engine)} is {tagged.get(engine)}, {SERVED_FILE} has {_outcome(check)}"
        elif check.get("weights") != weights:
            yield f"the check on {check.get('engine')} in {SERVED_FILE} is about other weights"


def describe(check: Mapping[str, Any]) -> str:
    """A check in words."""
    outcome = _outcome(check) if check.get("passed") else f"failed ({check.get('reason')})"
    return f"{check.get('engine')} {check.get('precision')} on {str(check.get('when'))[:10]}: {outcome}"


def _outcome(check: Mapping[str, Any]) -> str:
    return PASSED if check.get("passed") is True else FAILED
