"""Logs the trained model in the registry, and checks that the reloaded model gives equal logits, and answers as it was evaluated.

It runs in its own process, so that the memory of a large model is released: `log_in_subprocess(...)` starts
`python -m tasks.register.logged_model` with the request as JSON on standard input.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks import paths
from tasks.base.weights_digest import digest_of_files
from tasks.dataset.rendered import TEMPLATES
from tasks.errors import RegistryError, StropError
from tasks.register.evaluated_rows import Evaluated

if TYPE_CHECKING:
    from tasks.base.pin import BaseRecord
    from tasks.config import PipelineConfig
    from tasks.tracking.registry import Registry

logger = logging.getLogger(__name__)

PROBE = "The quick brown fox 敏捷的棕色狐狸 0123456789"


def log_in_subprocess(
    run_id: str,
    folder: Path,
    digest: str,
    base: dict[str, Any] | None = None,
    evaluated: Evaluated | None = None,
) -> str:
    """Logs the model in `folder` in its own process and returns its address in the registry.

    Args:
        base: the base of the model, as in a receipt; None for the base that is pinned now.
        evaluated: the rows that the reloaded model must answer as they were evaluated; None: none.
    """
    with tempfile.TemporaryDirectory(prefix="strop-register-") as scratch:
        output = Path(scratch) / "answer"
        request = {"run_id": run_id, "folder": str(folder), "digest": digest, "answer": str(output), "base": base}
        request["evaluated"] = asdict(evaluated) if evaluated else None
        # no GPU: it may be full, and both forward passes must run on the same device
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "tasks.register.logged_model"]
        result = subprocess.run(command, input=json.dumps(request), text=True, env=environment, check=False)
        if result.returncode or not output.exists():
            raise RegistryError("the model could not be logged; the reason is above", fix="Fix that, then run again")
        return output.read_text()


def log_model(
    config: PipelineConfig,
    run_id: str,
    folder: Path,
    digest: str,
    base: dict[str, Any] | None = None,
    evaluated: Evaluated | None = None,
) -> str:
    """Logs the model in `folder`, reloads it, and compares.

    Raises:
        RegistryError: the reloaded model has other logits, bytes or answers; the logged model is removed.
    """
    from tasks.base.convert import base_folder
    from tasks.base.heads import REWARD, labelled_base
    from tasks.base.load import LABELS, labels_of, load_tokenizer, load_trained
    from tasks.base.pin import base_of, read_base
    from tasks.tracking.registry import open_registry

    record = base_of(base) if base else read_base()
    is_adapter = (folder / "adapter_config.json").is_file()
    labels = labels_of(folder)
    adapter_base = (base_folder(record) if labels is None else labelled_base(record, labels)) if is_adapter else None
    registry = open_registry(config)
    tokenizer = load_tokenizer(folder, generates=labels in (None, REWARD))
    model = load_trained(folder, record, _precision(folder, record))
    before = logits(model, tokenizer)
    model_uri = registry.log_model(run_id, model, tokenizer, digest, adapter_base, is_generative=labels is None)
    del model  # two models may not fit into memory
    try:
        reloaded = registry.load_model(model_uri, adapter_base)
        _require_same(registry, model_uri, reloaded, before, digest)
        _require_same_answers(registry, reloaded, labels, evaluated)
    except StropError:
        registry.delete_model(model_uri)
        raise
    registry.share_weights(model_uri, folder)
    for file in (folder / TEMPLATES.name, folder / LABELS):
        if file.is_file():
            registry.add_file(model_uri, file)
    return model_uri


def _require_same(registry: Registry, model_uri: str, reloaded: tuple[Any, Any], before: Any, digest: str) -> None:
    """The reloaded model has the logits and the bytes of the logged one."""
    change = float((logits(*reloaded) - before).abs().max())
    with tempfile.TemporaryDirectory(prefix="strop-register-") as scratch:
        stored = digest_of_files(registry.weight_files(model_uri, Path(scratch)))
    if change != 0 or stored != digest:
        problem = f"its logits differ by {change:.3g}" if change else "its bytes differ from data/model"
        raise RegistryError(
            f"the model that the registry returns is not the one that was logged: {problem}", where=registry.address
        )


def _require_same_answers(
    registry: Registry, reloaded: tuple[Any, Any], labels: tuple[str, ...] | None, evaluated: Evaluated | None
) -> None:
    """The reloaded model answers the rows as they were evaluated."""
    if evaluated is None:
        return
    from tasks.inference.faults import reported_faults
    from tasks.register.reload_check import differing_answers

    fixes = {"memory_fix": "Free some memory, then run again", "nan_fix": "Train it again: rm -r data/model; strop run"}
    with reported_faults("the reloaded model", where="register", **fixes):
        problems = differing_answers(*reloaded, labels, evaluated)
    if problems:
        count = f"{len(problems)} of {len(evaluated.rows)}"
        raise RegistryError(
            f"the model that the registry returns answers {count} test rows otherwise than it was evaluated ({problems[0]})",
            where=registry.address,
            fix=f"Evaluate it again: rm -r {paths.PREDICTION_CACHE}; dvc repro --force evaluate; strop run --rejudge",
        )


def logits(model: Any, tokenizer: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.cpu().eval()(torch.tensor([tokenizer(PROBE)["input_ids"]])).logits.float()


def _precision(folder: Path, record: BaseRecord) -> Literal["bf16", "fp32"]:
    """The stored type of the weights, so that they are logged byte for byte; for an adapter, fp32 if its base fits in memory."""
    import psutil
    from safetensors import safe_open

    if not (folder / "adapter_config.json").is_file():
        with safe_open(next(iter(sorted(folder.glob("*.safetensors")))), "pt") as file:
            key = next(iter(file.keys()))
            return "bf16" if file.get_slice(key).get_dtype() == "BF16" else "fp32"
    from tasks.base.convert import base_folder

    stored_bytes = sum(file.stat().st_size for file in base_folder(record).glob("*.safetensors"))
    return "fp32" if 2 * stored_bytes < 0.7 * psutil.virtual_memory().available else "bf16"


def main() -> int:
    from tasks.runtime.fast_imports import importing
    from tasks.runtime.logs.formats import error_fields
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.parent_watchdog import end_with_parent
    from tasks.runtime.terminal_text import prepare_streams
    from tasks.runtime.threads import Threads

    prepare_streams()
    set_up_logs("register")
    end_with_parent()
    threads = Threads("register", is_quiet=True)
    with importing():
        import peft  # noqa: F401  with torch and transformers

        from tasks.config import load_config

    request = json.load(sys.stdin)
    threads.begin()
    try:
        folder = Path(request["folder"])
        evaluated = Evaluated(**request["evaluated"]) if request["evaluated"] else None
        uri = log_model(load_config(), request["run_id"], folder, request["digest"], request["base"], evaluated)
    except StropError as error:
        logger.error(f"strop: {error}", extra=error_fields(error))
        return error.exit_code
    Path(request["answer"]).write_text(uri)
    return 0


if __name__ == "__main__":
    sys.exit(main())
