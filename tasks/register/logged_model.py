"""Logs the trained model in the registry, and asserts that a reload gives equal logits.

It runs in a process of its own, so that the memory of a large model comes back: `log_apart(...)` starts
`python -m tasks.register.logged_model` with the request as JSON on standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.dataset.rendered import TEMPLATES
from tasks.errors import RegistryError, StropError

if TYPE_CHECKING:
    from tasks.base.pin import BaseRecord
    from tasks.config import PipelineConfig

PROBE = "The quick brown fox 敏捷的棕色狐狸 0123456789"


def log_apart(run_id: str, folder: Path, digest: str, base: dict[str, Any] | None = None) -> str:
    """Logs the model in `folder` in a process of its own, and returns its address in the registry.

    Args:
        base: the base that it was made from, as a receipt holds it; None for the one that is pinned now.
    """
    with tempfile.TemporaryDirectory(prefix="strop-register-") as scratch:
        answer = Path(scratch) / "answer"
        request = {"run_id": run_id, "folder": str(folder), "digest": digest, "answer": str(answer), "base": base}
        # no GPU: one may be full, and both sides of the comparison must compute alike
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "tasks.register.logged_model"]
        result = subprocess.run(command, input=json.dumps(request), text=True, env=environment, check=False)
        if result.returncode or not answer.exists():
            raise RegistryError(
                "the model could not be logged; the reason stands above", fix="Mend that, then run again"
            )
        return answer.read_text()


def log_model(
    config: PipelineConfig, run_id: str, folder: Path, digest: str, base: dict[str, Any] | None = None
) -> str:
    """Logs the model in `folder`, reloads it, and compares.

    Raises:
        RegistryError: the reloaded model answers differently, or its bytes are not those of `folder`; it is removed again.
    """
    from tasks.base.convert import base_folder
    from tasks.base.heads import REWARD, labelled_base
    from tasks.base.load import LABELS, labels_of, load_tokenizer, load_trained
    from tasks.base.pin import base_of, read_base
    from tasks.tracking.registry import open_registry

    record = base_of(base) if base else read_base()
    is_adapter = (folder / "adapter_config.json").is_file()
    labels = labels_of(folder)
    beneath = (base_folder(record) if labels is None else labelled_base(record, labels)) if is_adapter else None
    registry = open_registry(config)
    tokenizer = load_tokenizer(folder, generates=labels in (None, REWARD))
    model = load_trained(folder, record, _precision(folder, record))
    before = logits(model, tokenizer)
    model_uri = registry.log_model(run_id, model, tokenizer, digest, beneath, speaks=labels is None)
    del model  # two at once may not fit
    reloaded, its_tokenizer = registry.load_model(model_uri, beneath)
    change = float((logits(reloaded, its_tokenizer) - before).abs().max())
    with tempfile.TemporaryDirectory(prefix="strop-register-") as scratch:
        stored = digest_of(registry.weight_files(model_uri, Path(scratch)))
    if change != 0 or stored != digest:
        registry.forget_model(model_uri)
        told = f"its logits differ by {change:.3g}" if change else "its bytes differ from data/model"
        raise RegistryError(
            f"the model that the registry gives back is not the one that was logged: {told}", where=registry.address
        )
    registry.share_weights(model_uri, folder)
    for name in (TEMPLATES.name, LABELS):
        if (folder / name).is_file():
            registry.add_file(model_uri, folder / name)
    return model_uri


def digest_of(files: list[Path]) -> str:
    """As `tasks.base.weights_digest.weights_digest`, of files that lie anywhere."""
    from tasks.runtime.files import content_digest, file_digest

    return content_digest([[file.name, file_digest(file)] for file in sorted(files, key=lambda f: f.name)])


def logits(model: Any, tokenizer: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.cpu().eval()(torch.tensor([tokenizer(PROBE)["input_ids"]])).logits.float()


def _precision(folder: Path, record: BaseRecord) -> Literal["bf16", "fp32"]:
    """The type that the weights are stored in, so that they are logged byte for byte; an adapter's base in fp32 if it fits."""
    import psutil
    from safetensors import safe_open

    if not (folder / "adapter_config.json").is_file():
        with safe_open(next(iter(sorted(folder.glob("*.safetensors")))), "pt") as file:
            name = next(iter(file.keys()))
            return "bf16" if file.get_slice(name).get_dtype() == "BF16" else "fp32"
    from tasks.base.convert import base_folder

    stored_bytes = sum(file.stat().st_size for file in base_folder(record).glob("*.safetensors"))
    return "fp32" if 2 * stored_bytes < 0.7 * psutil.virtual_memory().available else "bf16"


def main() -> int:
    from tasks.runtime.fast_imports import importing
    from tasks.runtime.parent_watchdog import end_with_parent
    from tasks.runtime.terminal_text import prepare_streams
    from tasks.runtime.threads import Threads

    prepare_streams()
    end_with_parent()
    threads = Threads("register", is_quiet=True)
    with importing():
        import peft  # noqa: F401  with torch and transformers

        from tasks.config import load_config

    request = json.load(sys.stdin)
    threads.begin()
    try:
        folder = Path(request["folder"])
        uri = log_model(load_config(), request["run_id"], folder, request["digest"], request["base"])
    except StropError as error:
        print(f"strop: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    Path(request["answer"]).write_text(uri)
    return 0


if __name__ == "__main__":
    sys.exit(main())
