"""The base model as a plain Hugging Face folder on this disk; a GGUF file is converted once and kept by digest."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.base.making import making_folder
from tasks.base.resolve import BaseRecord, verify_base
from tasks.errors import BaseModelError, one_line


def base_folder(record: BaseRecord) -> Path:
    """The folder that transformers can load. Verifies the pinned digests on the way.

    Raises:
        BaseModelError: the base is not there, has changed, or cannot be converted.
    """
    places = verify_base(record)
    if record.kind in ("folder", "hub", "scratch"):
        return places["config.json"].parent
    if not (record.folder / "config.json").is_file():
        with making_folder() as temporary:
            if not (record.folder / "config.json").is_file():
                _convert(next(iter(places.values())), temporary)
                shutil.rmtree(record.folder, ignore_errors=True)
                temporary.rename(record.folder)
    return record.folder


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantises a GGUF file into a folder of fp32 safetensors, which then loads in under a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    print(f"base: converting {gguf.name} once (about half a minute)", flush=True)
    logging.disable_progress_bar()
    try:
        quantised = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise BaseModelError(
            f"cannot be read ({one_line(error, 200)})", where=str(gguf), fix="Set base.model"
        ) from error
    # the loaded model refuses save_pretrained ("quantized with gguf"): a fresh one of the same configuration takes its state
    config = quantised.config
    del config.quantization_config
    fresh = type(quantised)(config)
    fresh.load_state_dict(quantised.state_dict())
    fresh.generation_config = quantised.generation_config
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
