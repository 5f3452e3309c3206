"""A model on this machine as a generator: a registered version, the champion, the base, or a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.build.generator import CutOff, OnAnswer, ignore_answer
from tasks.build.settings import Generator as GeneratorSettings
from tasks.errors import DataError, RegistryError
from tasks.runtime.threads import Threads
from tasks.scoring.thoughts import without_thought

if TYPE_CHECKING:
    from tasks.base.generation import Answer
    from tasks.config import PipelineConfig
    from tasks.prompts.chat_prompts import Prompts


class LocalModel:
    def __init__(self, settings: GeneratorSettings, config: PipelineConfig, seed: int) -> None:
        self.settings, self.config, self.seed = settings, config, seed
        self.where = f"generator.model {settings.model}"
        self._threads = Threads("build")

    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        """As Generator.complete.

        Raises:
            RegistryError: there is no such version.
            BaseModelError: the model cannot be loaded.
            DataError: a prompt leaves no room for an answer.
        """
        from tasks.inference.faults import reported_faults

        prompt_ids = [self._prompt_ids(prompt) for prompt in prompts]
        self._require_room(max(map(len, prompt_ids), default=0))
        answers = [""] * len(prompts)

        def keep(finished: dict[int, Answer]) -> None:
            for index, answer in finished.items():
                text = without_thought(answer.text)
                answers[index] = CutOff(text) if answer.is_cut else text
                on_answer(index, answers[index])

        memory_fix, nan_fix = "Lower the generator's parallel_requests", "Choose another model"
        with reported_faults("the model", where=self.where, memory_fix=memory_fix, nan_fix=nan_fix):
            self._generate(prompt_ids, keep)
        return answers

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Prompts]:
        """The model, its tokenizer and its prompts."""
        model, tokenizer, prompts = self._load()
        self._threads.follow(model)
        return model, tokenizer, prompts

    def _load(self) -> tuple[Any, Any, Prompts]:
        from tasks.base.convert import base_folder
        from tasks.base.load import labels_of, load_base, load_tokenizer, load_trained
        from tasks.base.pin import pin_base
        from tasks.base.precision import best_precision
        from tasks.dataset.rendered import thinks_by_training
        from tasks.prompts.chat_prompts import Prompts

        record, precision = pin_base(self.config.base), best_precision()
        if self.settings.model == "base":
            tokenizer = load_tokenizer(base_folder(record), self.config.base.chat_template)
            return load_base(record, precision), tokenizer, Prompts(tokenizer)
        folder = Path(self.settings.model)
        if not folder.is_dir():
            folder = self._version_folder()
        if labels_of(folder) is not None:
            what = "has a classification head, and does not generate text"
            fix = "Choose a model that generates text: champion, base, a version's number, or a folder"
            raise RegistryError(what, where=self.where, fix=fix)
        tokenizer = load_tokenizer(folder)
        return load_trained(folder, record, precision), tokenizer, Prompts(tokenizer, thinks_by_training(folder))

    def _prompt_ids(self, prompt: str) -> list[int]:
        """The prompt's token ids: as a user's turn, or, for `completions`, as text to continue."""
        prompts = self._loaded[2]
        if self.settings.api == "chat":
            return prompts.of_chat([{"role": "user", "content": prompt}])
        return prompts.of_text(prompt)

    def _version_folder(self) -> Path:
        from tasks.model_store.ledger import read_ledger, version_named
        from tasks.model_store.versions import weights_folder

        name, entries = self.settings.model, read_ledger(self.config.register_.model_name)
        entry = version_named(entries, name)
        if entry is None:
            fix = "Set champion, base, a version's number (strop history), or a folder with a model"
            raise RegistryError("no such model", where=self.where, fix=fix)
        return weights_folder(self.config.register_.model_name, entry.version, entry.weights_digest)

    def _generate(self, prompts: list[list[int]], keep: Callable[[dict[int, Answer]], None]) -> None:
        """Answers greedily at temperature 0; else samples, in batches, longest prompts first."""
        from tasks.inference.embedded import EmbeddedEngine
        from tasks.inference.sampling import sample_answers

        model, tokenizer, _ = self._loaded
        rows, limit = self.settings.parallel_requests, self.settings.max_tokens
        if self.settings.temperature == 0:
            engine = EmbeddedEngine(
                model, tokenizer, stage="build", rows=rows, threads=self._threads, positions=self._positions()
            )
            engine.generate(prompts, limit, keep)
            return
        sampling = {"temperature": self.settings.temperature, "top_p": self.settings.top_p}
        sample_answers(
            model, tokenizer, prompts, limit,
            rows=rows, seed=self.seed, positions=self._positions(), sampling=sampling, on_answers=keep,
        )  # fmt: skip

    def _positions(self) -> int | None:
        positions: int | None = getattr(self._loaded[0].config, "max_position_embeddings", None)
        return positions

    def _require_room(self, longest_prompt: int) -> None:
        positions = self._positions()
        if positions is not None and longest_prompt >= positions:
            raise DataError(
                f"a prompt has {longest_prompt:,} tokens, but the context of the model is {positions:,}",
                where=self.where,
                fix="Lower `examples`, or choose a model with a longer context",
            )
