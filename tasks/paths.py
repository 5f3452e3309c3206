"""Every path of the project, relative to its root. Processes run with the root as their working directory.

`find_root()` climbs to it from wherever the user stands. A test compares this file with dvc.yaml.
"""

from __future__ import annotations

from pathlib import Path

from tasks.errors import ConfigError

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
DVC_CONFIG = Path(".dvc/config")
CONSTRAINTS = Path("constraints.txt")

DATA = Path("data")
CONTRACT = DATA / "contract" / "contract.yaml"
TEMPLATES = DATA / "templates"
CHAT_TEMPLATES = TEMPLATES / "chat"
JUDGES = DATA / "judges"
FORGETTING = DATA / "forgetting"

# what the world looked like when the round began
RAW = DATA / "raw"
RAW_DVC = DATA / "raw.dvc"
MANIFEST = RAW / "manifest.json"
ROUND = DATA / "round.json"
START = DATA / "start.json"
BASE = DATA / "base.json"
PLUGINS = DATA / "plugins"
DECISIONS = DATA / "decisions.jsonl"
ERASURES = DATA / "erasures.jsonl"
ERASING = DATA / "erasing.json"

# what the stages make
VALIDATED = DATA / "validated"
CURATED = DATA / "curated"
QUARANTINE = DATA / "quarantine"
RENDERED = DATA / "rendered"
MODEL = DATA / "model"
PREDICTIONS = DATA / "predictions"
PROBES = PREDICTIONS / "probes"
REPORTS = DATA / "reports"
VALIDATE_REPORT = REPORTS / "validate.json"
CURATE_REPORT = REPORTS / "curate.json"
RENDER_REPORT = REPORTS / "render.json"
TRAINING_REPORT = REPORTS / "training.json"
METRICS = REPORTS / "metrics.json"
PLOTS = REPORTS / "plots"
VERDICT = REPORTS / "verdict.json"
RECEIPT = REPORTS / "receipt.json"
VERSION_PAGE = REPORTS / "version.md"
SEARCH_PLOTS = REPORTS / "search"
DRIFT = REPORTS / "drift.json"
DRIFT_PLOT = REPORTS / "drift.svg"
SUMMARY = REPORTS / "summary.md"
REPORT = REPORTS / "report.html"
EXPLANATIONS = REPORTS / "explain"

# what a person opens, never an output: these bytes differ from run to run
DATA_DOCS = DATA / "docs"

# ours alone, ignored by git and DVC, and safe to delete (work is then done again)
CACHE = Path(".strop")
SCAN = CACHE / "scan.json"
CLEAN = CACHE / "clean.json"
CHECKPOINTS = CACHE / "checkpoints"
MODELS = CACHE / "models"
BASES = CACHE / "bases"
SOFT_TARGETS = CACHE / "soft-targets"
PREDICTION_CACHE = CACHE / "predictions"
SERVED = CACHE / "served"
SPOOL = CACHE / "serve" / "spool"
SERVING_ENGINE = CACHE / "serve" / "engine"
SERVED_CHECKS = CACHE / "serve" / "checks"
SERVE_KEY = CACHE / "serve" / "key"
JUDGEMENTS = CACHE / "judgements"
EVENTS = CACHE / "events"
VALIDATE_CACHE = CACHE / "cache" / "validate"
CURATE_CACHE = CACHE / "cache" / "curate"
GREAT_EXPECTATIONS = CACHE / "great_expectations"
LOCKS = CACHE / "locks"
LOG = CACHE / "logs" / "strop.log"
WORK = CACHE / "work"
COPIES = CACHE / "copies.json"
RAW_FILES = CACHE / "raw-files.json"
DVC_SITE = CACHE / "dvc"

REGISTRY_FOLDER = Path("mlflow")


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: here) that holds params.yaml and dvc.yaml; from the folder of a run the
    project that it belongs to: what a person decides there would be lost with the next run.

    Raises:
        ConfigError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        is_of_a_run = folder.parts[-2:] == WORK.parts
        if not is_of_a_run and (folder / PARAMS).is_file() and (folder / DVC_YAML).is_file():
            return folder
    raise ConfigError(
        "no params.yaml and dvc.yaml here or in a folder above",
        where=str(here),
        fix="Go to your clone of Strop, or pass --project FOLDER",
    )
