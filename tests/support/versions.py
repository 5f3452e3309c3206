"""Registered versions without training: predictions in DVC's cache, a commit with its tag and receipt, and ledger entries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
from ruamel.yaml import YAML

from support.toyworld import git
from tasks import paths
from tasks.model_store.ledger import Entry, Kind, append_entry, read_ledger
from tasks.runtime.files import md5_of, write_json, write_parquet

MODEL = "tiny"


def prediction(number: int, answer: str, score: float, **values: Any) -> dict[str, Any]:
    """A row of data/predictions: odd numbers are in English and of `topic`, even ones in Chinese and of `qa`."""
    family, language = ("topic", "en") if number % 2 else ("qa", "zh")
    row = {
        "row_id": f"{number:032x}", "batch": "b1", "family": family, "kind": "label" if number % 2 else "answer",
        "language": language, "prompt": f"第{number}题", "target": f"目标{number}", "prediction": answer, "read": answer,
        "is_unparsed": False, "score": score, "exact": score == 1,
    }  # fmt: skip
    return row | values


def write_predictions(**roles: list[dict[str, Any]]) -> None:
    """data/predictions and data/reports/metrics.json of a run. The digest of a role's weights is its first answer."""
    shutil.rmtree(paths.PREDICTIONS, ignore_errors=True)
    for role, rows in roles.items():
        write_parquet(paths.PREDICTIONS / f"{role}.parquet", pa.Table.from_pylist(rows))
    models = {role: {"weights_digest": _digest(rows)} for role, rows in roles.items()}
    write_json(paths.METRICS, {"test_rows": len(roles["candidate"]), "models": models})


def register_version(version: int, params: dict[str, Any], champion: int | None = None) -> str:
    """Registers the run whose predictions are in the project; returns the commit."""
    write_json(paths.PARAMS, params)
    store(paths.PREDICTIONS, "evaluate")
    metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
    receipt = {"round": {"champion": {"version": champion} if champion else None}, "metrics": metrics}
    write_json(paths.RECEIPT, receipt)
    git("add", "-A", "-f", "dvc.lock", str(paths.RECEIPT), str(paths.PARAMS))
    git("commit", "-q", "--allow-empty", "-m", f"v{version}")
    git("tag", f"{MODEL}@v{version}")
    record("judged", version, metrics["models"]["candidate"]["weights_digest"])
    return git("rev-parse", "HEAD").strip()


def record(kind: Kind, version: int, weights: str = "") -> None:
    """Appends an entry to the ledger."""
    entries = read_ledger(MODEL)
    weights = weights or next(e.weights_digest for e in entries if e.version == version)
    entry = Entry(
        kind, version, weights, f"{version:064x}", "0" * 64, "d" * 32, True, 1, 4, "test", "2026-01-01", "test"
    )
    append_entry(MODEL, entry, expected_length=len(entries), remote="")


def store(path: Path, stage: str) -> None:
    """Stores a folder as an output of a stage, in DVC's cache and dvc.lock, as `dvc repro` would."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = [{"md5": md5_of(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    for file, entry in zip(files, listing, strict=True):
        shutil.copyfile(file, _cached(entry["md5"]))
    text = path.with_name(".listing")
    text.write_text(json.dumps(listing, sort_keys=True))
    digest = f"{md5_of(text)}.dir"
    text.replace(_cached(digest))
    yaml = YAML(typ="safe")
    lock = yaml.load(paths.DVC_LOCK) if paths.DVC_LOCK.exists() else {"schema": "2.0", "stages": {}}
    lock["stages"][stage] = {"cmd": stage, "outs": [{"path": path.as_posix(), "hash": "md5", "md5": digest}]}
    yaml.dump(lock, paths.DVC_LOCK)


def _cached(md5: str) -> Path:
    path = Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _digest(rows: list[dict[str, Any]]) -> str:
    return (rows[0]["prediction"] or "-").encode().hex().ljust(64, "0")[:64]
