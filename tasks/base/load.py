"""Loads tokenizers and models: the base, or a trained folder (an adapter on the base, or full weights)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from tasks import paths
from tasks.base.convert import base_folder
from tasks.base.foreign import require_no_pickles, require_own_code, trusts
from tasks.base.heads import append_end_token, begin_ids, set_labels
from tasks.base.model_kind import LABELS as LABELS
from tasks.base.pin import BaseRecord
from tasks.base.precision import DTYPES, Precision
from tasks.base.vocabulary import require_embeddings
from tasks.errors import BaseModelError, ConfigError, one_line
from tasks.runtime.bounded_jinja.environment import bound_chat_templates
from tasks.runtime.files import read_json
from tasks.runtime.logs.libraries import set_library_level

CONSTANT_DATE = "26 Jul 2024"
"""The output of `strftime_now` in a chat template: the current date would change rows and prompts every day."""
_DATE_MACRO = f"{{% macro strftime_now(f) %}}{CONSTANT_DATE}{{% endmacro %}}"

ADAPTER = "adapter_config.json"

DROPOUTS = (
    *("attention_dropout", "attn_pdrop", "dropout", "embd_pdrop", "hidden_dropout", "resid_pdrop"),
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "embedding_dropout", "mlp_dropout", "pooler_dropout"),
    *("classifier_dropout", "classifier_dropout_prob", "cls_dropout", "seq_classif_dropout"),
)
"""Names of the dropout settings in model configurations."""


def device_name() -> str:
    """ "cuda" if a GPU is available, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(folder: Path, chat_template: str = "own", generates: bool = True) -> Any:
    """The tokenizer of a model folder, with a chat template and a padding token, which are added if missing.

    A chat template that writes the current date (`strftime_now`) writes 26 Jul 2024 (CONSTANT_DATE) instead. A begin token that the
    tokenizer adds to texts is added to a chat template without it.

    Args:
        folder: a model folder (the base's, data/model, or .strop/models/<digest>).
        chat_template: "own", or the name of a file in data/templates/chat/. A model without its own uses `alpaca`.
        generates: False for a classifier, which needs neither chat template nor end token. Its tokenizer then adds the special
            tokens around a text itself.

    Raises:
        BaseModelError: the folder has no readable tokenizer, it has no end token, or it has more tokens than the model has
            embeddings.
        ConfigError: there is no chat template of that name.
    """
    from transformers import AutoTokenizer

    require_own_code(folder, trusts(folder))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusts(folder))
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(
            f"holds no readable tokenizer ({_first_line(error)})", where=str(folder), fix="Set base.model"
        ) from error
    require_embeddings(folder, tokens=max(tokenizer.get_vocab().values(), default=-1) + 1)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not generates:
        append_end_token(tokenizer)
        return tokenizer
    if tokenizer.eos_token is None:
        raise BaseModelError(
            "its tokenizer has no end token, so an answer could not end", where=str(folder), fix="Set base.model"
        )
    if chat_template != "own" or not tokenizer.chat_template:
        tokenizer.chat_template = _named_template("alpaca" if chat_template == "own" else chat_template)
    bound_chat_templates()  # a model's own template is untrusted code
    template = tokenizer.chat_template
    if isinstance(template, dict):  # several by name: with and without tools
        tokenizer.chat_template = {name: _adapted_template(text, tokenizer) for name, text in template.items()}
    else:
        tokenizer.chat_template = _adapted_template(template, tokenizer)
    return tokenizer


def _adapted_template(template: str, tokenizer: Any) -> str:
    """The chat template with a constant date; it writes the begin token first, and only once."""
    begin = "".join(tokenizer.convert_ids_to_tokens(begin_ids(tokenizer)))
    if begin and not _writes_first(tokenizer, template, begin):
        template = f"{{{{ {'bos_token' if begin == tokenizer.bos_token else json.dumps(begin)} }}}}{template}"
    return _DATE_MACRO + template.removeprefix(_DATE_MACRO) if "strftime_now" in template else template


def _writes_first(tokenizer: Any, template: str, begin: str) -> bool:
    """Does this chat template start with the begin token? If it rejects a test conversation: does it contain the token?"""
    for content in ("probe", [{"type": "text", "text": "probe"}]):
        try:
            messages = [{"role": "user", "content": content}]
            text: str = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        except (TemplateError, TypeError, ValueError, KeyError, RecursionError):
            continue
        return text.lstrip().startswith(begin)
    return "bos_token" in template or begin in template


def _named_template(name: str) -> str:
    path = paths.CHAT_TEMPLATES / f"{name}.jinja"
    if not path.is_file():
        names = ", ".join(["own", *sorted(path.stem for path in paths.CHAT_TEMPLATES.glob("*.jinja"))])
        raise ConfigError(
            f"no chat template has the name {name}; available: {names}",
            where="base.chat_template",
            fix=f"Name one of these, or put yours at {path}",
        )
    return path.read_text(encoding="utf-8")


def load_base(record: BaseRecord, precision: Precision = "fp32", **more: Any) -> Any:
    """The base model, in evaluation mode, on the GPU where there is one; `more` as for `load_weights`.

    Raises:
        BaseModelError: it is missing, has changed, or is another kind of model.
    """
    return load_weights(base_folder(record), precision, **more)


def load_trained(folder: Path, record: BaseRecord, precision: Precision = "fp32") -> Any:
    """A trained model: an adapter on the base `record`, or full weights. In evaluation mode.

    Raises:
        BaseModelError: the base or the trained weights are missing.
    """
    labels = labels_of(folder)
    if not is_adapter(folder):
        return load_weights(folder, precision, labels=labels)
    from peft import PeftModel

    require_no_pickles((path.name for path in folder.iterdir()), str(folder))
    return PeftModel.from_pretrained(load_base(record, precision, labels=labels), str(folder)).eval()


def is_adapter(folder: Path) -> bool:
    """Does the folder hold an adapter instead of full weights?"""
    return (folder / ADAPTER).is_file()


def labels_of(folder: Path) -> tuple[str, ...] | None:
    """The labels of the head of the model in `folder`; None for a causal LM."""
    path = folder / LABELS
    return tuple(read_json(path)) if path.is_file() else None


def load_weights(
    folder: Path,
    precision: Precision = "fp32",
    dropout: float | None = None,
    in_four_bits: bool = False,
    labels: tuple[str, ...] | None = None,
) -> Any:
    """The full weights in a folder, in evaluation mode, on the GPU where there is one.

    Args:
        dropout: in all layers, if given.
        in_four_bits: keep the linear layers in 4 bits (NF4, bitsandbytes); needs a GPU.
        labels: load with a classification head for these labels, a new one if the folder has none; None: a causal LM.

    Raises:
        BaseModelError: they are missing, or belong to another kind of model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    set_library_level("transformers")
    code = trusts(folder)
    require_own_code(folder, code)
    require_no_pickles((path.name for path in folder.iterdir()) if folder.is_dir() else (), str(folder))
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=code)
        for name in DROPOUTS if dropout is not None else ():
            if hasattr(config, name):
                setattr(config, name, dropout)
        if labels is not None:
            set_labels(config, labels)
        more = _four_bits(precision) if in_four_bits else {}
        kind = AutoModelForCausalLM if labels is None else AutoModelForSequenceClassification
        model, loaded = kind.from_pretrained(
            folder,
            config=config,
            dtype=DTYPES[precision],
            attn_implementation="sdpa",
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=code,
            **more,
        )
        model.new_modules = _new_modules(model, loaded["missing_keys"])
    except (OSError, ValueError, KeyError) as error:
        expected = "causal LM" if labels is None else "model with a classification head"
        what = f"cannot be loaded as a {expected} ({_first_line(error)})"
        raise BaseModelError(what, where=str(folder), fix="Set base.model") from error
    return model.eval() if in_four_bits else model.to(device_name()).eval()


def _new_modules(model: Any, missing: Iterable[str]) -> tuple[str, ...]:
    """The modules whose weights are missing in the folder, and which are therefore initialised: those of a new head."""
    body = f"{model.base_model_prefix}."
    return tuple(sorted({key.rpartition(".")[0] if key.startswith(body) else key.split(".")[0] for key in missing}))


def _four_bits(precision: Precision) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[precision],
    )
    return {"quantization_config": config, "device_map": {"": 0}}


def _first_line(error: Exception) -> str:
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[0], 200)
