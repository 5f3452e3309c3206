"""A version that is loaded to answer requests: model, tokenizer, prompts, and what is known of it."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.base.generation import end_token_ids
from tasks.base.heads import REWARD, max_input_tokens
from tasks.base.load import labels_of, load_tokenizer, load_trained
from tasks.base.pin import pin_base
from tasks.base.precision import judged_precision
from tasks.base.settings import BaseSettings
from tasks.inference.support import inner_model, unsupported_reason
from tasks.runtime.files import read_object
from tasks.serve.engine.choose import SEEDS, Chooser
from tasks.serve.engine.constraint import Grammars
from tasks.serve.engine.messages import WorkerSpec
from tasks.serve.engine.online_row import OnlineRow, Sink
from tasks.serve.engine.probe import has_independent_rows
from tasks.serve.engine.rendering import Rendered, RequestRenderer
from tasks.serve.engine.request import EngineFacts, Request, RequestRejected
from tasks.serve.engine.text_stream import TextDecoder, TextStream

logger = logging.getLogger(__name__)

TEMPLATES = "templates.json"


@dataclass
class LoadedVersion:
    model: Any
    tokenizer: Any
    labels: tuple[str, ...] | None
    precision: str
    renderer: RequestRenderer
    ends: frozenset[int]
    context: int | None
    text: TextDecoder | None = None
    grammars: Grammars | None = None
    """None: no fast tokenizer, so no JSON schemas."""

    @property
    def inner(self) -> Any:
        return inner_model(self.model)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token."""
        if self.grammars is not None:
            return self.grammars.bytes_of(token)
        return str(self.tokenizer.decode([token])).encode("utf-8", "replace")

    def rows_of(self, request: Request, rendered: Rendered, sink: Sink) -> list[OnlineRow]:
        """A row for each choice of a request.

        Raises:
            RequestRejected: its schema cannot be compiled.
        """
        sampling, schema = request.sampling, request.sampling.json_schema
        assert self.text is not None
        if schema is not None and self.grammars is None:
            raise RequestRejected("invalid_schema", "this version's tokenizer supports no schemas", "json_schema")
        first_seed = random.SystemRandom().randrange(SEEDS) if sampling.seed is None else sampling.seed
        rows = []
        for choice in range(request.choices):
            constraint = self.grammars.constraint(schema) if self.grammars and schema is not None else None
            row = OnlineRow(
                choice, list(rendered.ids), len(rendered.ids), rendered.limit, request.id,
                Chooser(sampling, first_seed + choice, constraint), TextStream(self.text, sampling.stop),
                self.ends, sink, rendered.reader, rendered.is_task, sampling.logprobs, self.bytes_of,
            )  # fmt: skip
            rows.append(row)
        return rows


def load_version(spec: WorkerSpec) -> LoadedVersion:
    """Loads a version in the precision of its evaluation.

    Raises:
        StropError: it cannot be loaded: its base has changed, a file is missing.
    """
    folder = Path(spec.folder)
    labels = labels_of(folder)
    tokenizer = load_tokenizer(folder, generates=labels in (None, REWARD))
    precision = judged_precision(spec.precision, "serve")
    model = load_trained(folder, pin_base(BaseSettings.model_validate(spec.base)), precision)
    templates = read_object(folder / TEMPLATES)
    context = max_input_tokens(model)
    renderer = RequestRenderer(tokenizer, templates, labels, spec.max_new_tokens, context)
    if labels is not None:
        return LoadedVersion(model, tokenizer, labels, precision, renderer, frozenset(), context)
    ends = end_token_ids(model, tokenizer)
    loaded = LoadedVersion(model, tokenizer, None, precision, renderer, frozenset(ends), context)
    loaded.text = TextDecoder(tokenizer)
    if tokenizer.is_fast:
        loaded.grammars = Grammars(tokenizer, loaded.inner.config.get_text_config().vocab_size, ends)
    return loaded


def reason_for_generate(loaded: LoadedVersion) -> str | None:
    """Why the version is served by `generate`, one request after the other; None if slots support it."""
    return unsupported_reason(loaded.model, loaded.context or 1 << 20)


def facts_about(loaded: LoadedVersion, spec: WorkerSpec, *, in_slots: bool) -> EngineFacts:
    """What is reported of the version. To be called as it will compute: with packed weights.

    Its answers are those of the evaluation if that had the same engine and precision, and rows are independent on this processor.
    """
    is_exact = spec.engine == "embedded" and loaded.precision == spec.precision
    if loaded.labels is None and is_exact:
        is_exact = in_slots and has_independent_rows(loaded.inner, loaded.context)
    if not is_exact:
        logger.info("serve: answers may differ from those of the evaluation in near ties")
    families = tuple(loaded.renderer.families.families) if loaded.renderer.families else ()
    engine = f"embedded transformers {version('transformers')}"
    return EngineFacts(engine, loaded.precision, is_exact, loaded.context, families, loaded.labels)
