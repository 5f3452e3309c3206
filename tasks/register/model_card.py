"""The model card of a version in the format of the Hugging Face Hub, README.md with YAML metadata, from its receipt alone. Pure.

    text = model_card(receipt, "strop-model")

It is a file of the version's run in MLflow, not of the logged model: versions with equal weights share a model, and a file in it
would change the files that the audit compares. It has no texts of rows, and no paths of this machine.
"""

from __future__ import annotations

import re
from typing import Any

from tasks.runtime.files import content_digest
from tasks.runtime.redaction.known import redact_values
from tasks.runtime.visible_text import printable, printable_markdown
from tasks.state.verdict import outcome_of

ROLES = ("base", "champion", "candidate")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LANGUAGE = re.compile(r"[a-z]{2,3}")
ADAPTERS = ("lora", "dora", "qlora", "prompt")
"""Methods (`finetune.method`) whose model is saved as an adapter."""
SETTINGS = ("objective", "method", "epochs", "max_steps", "learning_rate", "seed", "precision")
LIMITS = (
    "The scores are about the test rows of the families above, which were split off the collected rows; they do not describe "
    "other tasks, languages or users. An interval covers the chance in the choice of test rows, not a change of the data over "
    "time. Whether answers are harmful, biased or true was measured only where a check above says so."
)

Receipt = dict[str, Any]


def model_card(receipt: Receipt, name: str) -> str:
    """The content of README.md."""
    receipt = redact_values(receipt)
    parts = [
        f"# {name}",
        _verdict(receipt),
        "## Scores",
        _scores(receipt),
        "## Checks of the gate",
        _checks(receipt),
        "## Training",
        _training(receipt),
        "## Limits",
        LIMITS,
    ]
    return f"---\n{_metadata(receipt, name)}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _metadata(receipt: Receipt, name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    families = _families(receipt)
    is_adapter = (receipt.get("params") or {}).get("finetune", {}).get("method") in ADAPTERS
    classifies = bool(families) and all(measured.get("per_class") for measured in families.values())
    task = "text-classification" if classifies else "text-generation"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=f"{name}/{_slug(family)}",
            dataset_name=printable(family),
            dataset_split="test",
            dataset_revision=receipt.get("dataset"),
            metric_type=_slug(measured.get("measure") or "score"),
            metric_name=measured.get("measure") or "score",
            metric_value=measured["score"],
        )
        for family, measured in families.items()
        if measured.get("score") is not None
    ]
    languages = {language for measured in families.values() for language in measured.get("languages") or {}}
    data = ModelCardData(
        model_name=name,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag=task,
        base_model=hub_id(receipt),
        language=sorted(language for language in languages if LANGUAGE.fullmatch(language)) or None,
        tags=["strop"],
        eval_results=results or None,
    )
    return str(data.to_yaml()).strip()


def hub_id(receipt: Receipt) -> str | None:
    """The base's id on the hub; None for a folder or file, whose path is nobody else's business."""
    base = receipt.get("base") or {}
    is_on_hub = base.get("kind") == "hub" and HUB_ID.fullmatch(str(base.get("id")))
    return str(base["id"]) if is_on_hub else None


def _verdict(receipt: Receipt) -> str:
    verdict = receipt["verdict"]
    version = verdict.get("champion_version")
    against = f"version {version}, the champion at that time" if version else "the base model"
    return (
        f"Registered by Strop. Verdict of its gate: **{outcome_of(verdict)}**, compared with {against} on "
        f"{verdict['test_rows']:,} test rows (look {verdict['look']} of test epoch {verdict['test_epoch']})."
    )


def _families(receipt: Receipt) -> dict[str, Any]:
    candidate = ((receipt.get("metrics") or {}).get("models") or {}).get("candidate") or {}
    return dict(candidate.get("families") or {})


def _scores(receipt: Receipt) -> str:
    models = (receipt.get("metrics") or {}).get("models") or {}
    roles = [role for role in ROLES if role in models]
    rows = []
    for family, measured in _families(receipt).items():
        scores = [_score(models[role].get("families", {}).get(family)) for role in roles]
        rows.append([family, measured.get("measure", ""), f"{measured['rows']:,}", *scores])
    return _table(["family", "metric", "test rows", *roles], rows) if rows else "No family has test rows."


def _score(measured: dict[str, Any] | None) -> str:
    if not measured or measured.get("score") is None:
        return "–"
    ends = measured.get("interval")
    return f"{measured['score']:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def _checks(receipt: Receipt) -> str:
    marks = {True: "passed", False: "failed", None: "not counted"}
    rows = [
        [check["name"], check.get("tier") or "", marks[check["passed"]], check["detail"]]
        for check in receipt["verdict"]["checks"]
    ]
    return _table(["check", "tier", "result", "detail"], rows)


def _training(receipt: Receipt) -> str:
    params = receipt.get("params") or {}
    finetune = params.get("finetune") or {}
    base = receipt.get("base") or {}
    lora = finetune.get("lora") or {} if finetune.get("method") in ADAPTERS[:3] else {}
    lines = {
        "base": hub_id(receipt) or f"a local model, digest {str(base.get('digest'))[:16]}",
        "weights": receipt.get("weights"),
        "dataset": receipt.get("dataset"),
        "rows": sum(batch["rows"] for batch in receipt.get("manifest") or [] if "rows" in batch),
        **{name.replace("_", " "): finetune[name] for name in SETTINGS if finetune.get(name) is not None},
        "adapter": ", ".join(f"{key} {value}" for key, value in lora.items() if value is not None),
        "hardware": (receipt.get("hardware") or {}).get("processor"),
        "receipt": content_digest(receipt),
    }
    table = _table(["", ""], [[key, str(value)] for key, value in lines.items() if value not in (None, "", 0)])
    audit = (
        "`strop history` has the version of this receipt; `strop audit` verifies it, `strop reproduce` makes it again."
    )
    return f"{table}\n\n{audit}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([printable_markdown(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _slug(text: str) -> str:
    """A name with letters, digits and underscores; Chinese letters stay."""
    return re.sub(r"\W+", "_", printable(text).strip().lower()).strip("_") or "score"
