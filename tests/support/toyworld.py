"""A whole project whose stages are toys: real git, DVC, MLflow and ledger, but weights that were made beforehand.

A stage takes a twentieth of a second, so that tests of what stands around the stages need not train.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.once import once
from support.project import REPOSITORY, copy_project, params, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import qa_records, write_jsonl

if TYPE_CHECKING:
    from tasks.register.stage import Registration

DVC_YAML = """
stages:
  curate:
    cmd: python toy.py curate
    deps: [data/contract, data/decisions.jsonl, data/raw, data/templates]
    outs: [data/curated]
  finetune:
    cmd: python toy.py finetune
    deps: [data/base.json, data/curated]
    params: [finetune.seed]
    outs: [data/model, data/reports/training.json]
  evaluate:
    cmd: python toy.py evaluate
    deps: [data/model]
    outs: [data/predictions]
  gate:
    cmd: python toy.py gate
    deps: [data/model, data/round.json, tasks/gate, tasks/base/weights_digest.py, verdicts.json]
    params: [gate]
    outs: [data/reports/plots]
    metrics: [data/reports/metrics.json, data/reports/verdict.json]
"""

TOY = """
import json, shutil, sys
from pathlib import Path

reports = Path("data/reports")
seed = str(json.loads(Path("params.yaml").read_text())["finetune"]["seed"])

def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))

def curate():
    for file in sorted(Path("data/raw").rglob("*.parquet")):
        target = Path("data/curated") / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)

def finetune():
    shutil.copytree(Path("adapters") / seed, "data/model")
    lines = [json.dumps({"step": s, "loss": 3.0 / (s + 1), "learning_rate": 0.01}) for s in range(4)]
    Path("data/model/curves.jsonl").write_text("\\n".join(lines) + "\\n")
    write(reports / "training.json", {"threads": 1, "effective_micro_batch_rows": 1, "seed": int(seed), "precision": "fp32"})

def evaluate():
    write(Path("data/predictions/answers.json"), {"seed": seed})

def gate():
    from tasks.base.weights_digest import weights_digest
    digest = weights_digest(Path("data/model"))
    round_ = json.loads(Path("data/round.json").read_text())
    passed = json.loads(Path("verdicts.json").read_text()).get(seed, True)
    champion = round_["champion"]
    scores = {"overall": {"score": 0.9, "rows": 40, "interval": [0.8, 1.0]}, "families": {}, "valid_perplexity": 2.5}
    write(reports / "metrics.json", {"test_rows": 40, "models": {"candidate": {"weights_digest": digest, **scores}}})
    (reports / "plots").mkdir(parents=True, exist_ok=True)
    (reports / "plots" / "scores.svg").write_text("<svg/>")
    write(reports / "verdict.json", {
        "outcome": "passed" if passed else "refused", "passed": passed, "reference": "champion" if champion else "base",
        "champion_version": champion["version"] if champion else None, "candidate_digest": digest,
        "alpha_spent": 0.025, "test_epoch": round_["test_epoch"], "look": round_["looks"] + 1, "test_rows": 40,
        "checks": [{"name": "better", "family": None, "passed": passed, "tier": "critical", "number": 0.01, "bound": 0.025,
                    "interval": None, "rows": 40, "detail": "toy"}],
    })

globals()[sys.argv[1]]()
"""

STAGES = ("curate", "finetune", "evaluate", "gate")


def make_adapter(base: Path, folder: Path, seed: int) -> None:
    """A LoRA adapter that changes what the base says, with a tokenizer that has a chat template."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.2)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    (folder / "templates.json").write_text("{}")


def set_params(base: Path | None = None, seed: int = 1, **sections: dict[str, Any]) -> None:
    """Writes params.yaml; without a base, that of before."""
    model = base or json.loads(Path("params.yaml").read_text())["base"]["model"]
    sources = [{"name": "qa", "path": "inbox/*.jsonl", "shape": "alpaca", "family": "qa"}]
    write_params(Path(), params(model, sources, **{"finetune": {"seed": seed}, **sections}))


def set_verdicts(**passed: bool) -> None:
    """Which seeds the toy gate lets through, such as `seed2=False`."""
    Path("verdicts.json").write_text(json.dumps({name.removeprefix("seed"): ok for name, ok in passed.items()}))


@functools.cache
def template(name: str) -> Path:
    """A project to copy, made once a session: `judged` holds a verdict on a first candidate; in `serving` version 1 serves,
    and version 2 was let through and waits as challenger; in `refused` there are also 3, which was refused, and 5, which has the
    weights of 2 and a verdict of its own. MLflow gave the number 4 to something that was deleted."""
    makers = {"judged": _judge_first, "serving": _serve_first, "refused": _refuse_third}
    return once(f"toy-{name}", makers[name]) / "project"


def _judge_first(top: Path) -> None:
    make_tiny_gpt2(top / "base")
    _build(top / "project", top / "base")


def _serve_first(top: Path) -> None:
    with contextlib.chdir(shutil.copytree(template("judged"), top / "project", symlinks=True)):
        from tasks.config import load_config
        from tasks.promote.stage import promote

        assert register().version == 1
        promote(load_config(), 1, why="first", expected_champion=None)
        set_params(seed=2)
        run_stages()
        assert register().version == 2
        git("repack", "-a", "-d", "-q")


def _refuse_third(top: Path) -> None:
    with contextlib.chdir(shutil.copytree(template("serving"), top / "project", symlinks=True)):
        from tasks.config import load_config
        from tasks.tracking.registry import open_registry

        set_params(seed=3)
        set_verdicts(seed3=False)
        run_stages()
        assert register().version == 3
        registry = open_registry(load_config())
        second = registry.version(2)
        registry.delete_version(registry.create_version(second.source, second.run_id, {}))
        set_params(seed=2)
        run_stages(rejudge=True)
        assert register().version == 5


def stand_in(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a template, which the test then stands in. Models are logged in this process, to save its start."""
    from tasks.register import logged_model

    root = copy_project(template(name), tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setattr(logged_model, "log_in_subprocess", log_here)
    return root


def own_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's base for the audit to read: the base itself is shared by all workers of a session."""
    from tasks.audit import links
    from tasks.base.pin import base_of

    copy = shutil.copytree(json.loads(Path("data/base.json").read_text())["id"], folder / "base")
    monkeypatch.setattr(links, "base_of", lambda recorded: replace(base_of(recorded), id=str(copy)))
    return copy


def log_here(run_id: str, folder: Path, digest: str, base: dict[str, Any] | None = None, evaluated: Any = None) -> str:
    from tasks.config import load_config
    from tasks.register.logged_model import log_model

    return log_model(load_config(), run_id, folder, digest, base, evaluated)


def register() -> Registration:
    """Registers in this process."""
    from tasks.config import load_config
    from tasks.register import logged_model, stage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logged_model, "log_in_subprocess", log_here)
        return stage.run(load_config())


def _build(root: Path, base: Path) -> None:
    from tasks.config import load_config
    from tasks.tracking.registry import open_registry

    for folder in ("tasks", "data/contract", "data/templates"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("constraints.txt", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (root / file).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / file, root / file)
    with contextlib.chdir(root):
        Path("dvc.yaml").write_text(DVC_YAML)
        Path("toy.py").write_text(TOY)
        for seed in (1, 2, 3):
            make_adapter(base, Path("adapters") / str(seed), seed)
        write_jsonl(Path("inbox/one.jsonl"), qa_records(12))
        set_params(base, seed=1)
        set_verdicts()
        git("init", "-q", "-b", "main")
        git("add", "-A")
        git("commit", "-q", "-m", "A toy project")
        run_stages()
        open_registry(load_config())  # makes the file: MLflow takes seconds for it
        git("repack", "-a", "-d", "-q")  # hundreds of tests copy it: one file in place of 700


def run_stages(rejudge: bool = False) -> None:
    """Ingests, opens the round, and reproduces the toys."""
    from tasks.config import load_config
    from tasks.ingest import stage as ingest
    from tasks.vcs.dvc_pipeline import reproduce

    ingest.run(load_config(), rejudge)
    for stage in STAGES:
        reproduce(stage)


def git(*arguments: str, cwd: Path | None = None) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always"]
    result = subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return result.stdout


def set_remote(place: Path) -> None:
    """A DVC remote, as `dvc remote add --default store PLACE` writes it; the command takes seconds to start."""
    config = Path(".dvc/config")
    lines = [line for line in config.read_text().splitlines() if "remote" not in line and "url" not in line]
    text = "\n".join(lines).replace("[core]", "[core]\n    remote = store")
    config.write_text(f"{text}\n['remote \"store\"']\n    url = {place}\n")


def users_view() -> dict[str, Any]:
    """What the user of a repository would notice if it changed: HEAD, the index, the status, and every file's bytes."""
    index = Path(".git/index").read_bytes()
    skipped = {".git", ".dvc", ".strop", "mlflow", "__pycache__"}
    files = {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file() and not skipped & set(p.parts)}
    return {
        "index": index,
        "head": git("rev-parse", "HEAD"),
        "branch": git("symbolic-ref", "HEAD"),
        "status": git("--no-optional-locks", "status", "--porcelain"),
        "files": files,
    }
