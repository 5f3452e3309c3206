"""A model on this machine as a generator: a registered version, the champion, the base, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.build.generator import CutOff, OnAnswer, ignore_answer
from tasks.build.settings import Generator as GeneratorSettings
from tasks.errors import DataError, RegistryError
from tasks.runtime.threads import Threads
from tasks.scoring.thoughts import without_thought

if TYPE_CHECKING:
    from tasks.base.prompts import Prompts
    from tasks.config import PipelineConfig


class LocalModel:
    def __init__(self, settings: GeneratorSettings, config: PipelineConfig, seed: int) -> None:
        self.settings, self.config, self.seed = settings, config, seed
        self._loaded: tuple[Any, Any] | None = None
        self._prompts: Prompts | None = None

    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        """As Generator.complete, in batches, longest prompts first.

        Raises:
            RegistryError: there is no such version.
            BaseModelError: the model cannot be loaded.
            DataError: a prompt leaves no room for an answer.
        """
        import torch

        if self._loaded is None:
            threads = Threads("build")
            self._loaded = self._load()
            threads.follow(self._loaded[0])
        prompt_ids = [self._prompt_ids(prompt) for prompt in prompts]
        answers = [""] * len(prompts)
        order = sorted(range(len(prompt_ids)), key=lambda index: (-len(prompt_ids[index]), index))
        step = self.settings.parallel_requests
        for start in range(0, len(order), step):
            batch = order[start : start + step]
            # the seed depends on the prompt, so that a resumed recipe samples the same answers as an uninterrupted one
            torch.manual_seed(hash((self.seed, *prompt_ids[batch[0]])) & 0x7FFFFFFF)
            for index, text in zip(batch, self._generate([prompt_ids[i] for i in batch]), strict=True):
                answers[index] = text
                on_answer(index, text)
        return answers

    def _load(self) -> tuple[Any, Any]:
        from tasks.base.convert import base_folder
        from tasks.base.load import labels_of, load_base, load_tokenizer, load_trained
        from tasks.base.pin import pin_base
        from tasks.base.precision import best_precision
        from tasks.base.prompts import Prompts
        from tasks.dataset.rendered import thinks_by_training

        record, precision = pin_base(self.config.base), best_precision()
        if self.settings.model == "base":
            tokenizer = load_tokenizer(base_folder(record), self.config.base.chat_template)
            self._prompts = Prompts(tokenizer)
            return load_base(record, precision), tokenizer
        folder = Path(self.settings.model)
        if not folder.is_dir():
            folder = self._version_folder()
        if labels_of(folder) is not None:
            fix = "Choose a model that generates text: champion, base, a version's number, or a folder"
            raise RegistryError(
                "has a classification head, and does not generate text",
                where=f"generator.model {self.settings.model}",
                fix=fix,
            )
        tokenizer = load_tokenizer(folder)
        self._prompts = Prompts(tokenizer, thinks_by_training(folder))
        return load_trained(folder, record, precision), tokenizer

    def _prompt_ids(self, prompt: str) -> list[int]:
        """The prompt's token ids: as a user's turn, or, for `completions`, as text to continue."""
        assert self._prompts is not None
        if self.settings.api == "chat":
            return self._prompts.of_chat([{"role": "user", "content": prompt}])
        return self._prompts.of_text(prompt)

    def _version_folder(self) -> Path:
        from tasks.model_store.ledger import read_ledger, version_named
        from tasks.model_store.versions import weights_folder

        name, entries = self.settings.model, read_ledger(self.config.register_.model_name)
        entry = version_named(entries, name)
        if entry is None:
            fix = "Set champion, base, a version's number (strop history), or a folder with a model"
            raise RegistryError("no such model", where=f"generator.model {name}", fix=fix)
        return weights_folder(self.config.register_.model_name, entry.version, entry.weights_digest)

    def _generate(self, prompts: list[list[int]]) -> list[str]:
        import torch

        from tasks.base.generation import answer_reader, end_token_ids

        assert self._loaded is not None
        model, tokenizer = self._loaded
        ends = end_token_ids(model, tokenizer)
        width = max(len(ids) for ids in prompts)
        longest = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        if width >= longest:
            raise DataError(
                f"a prompt has {width:,} tokens, but the context of the model is {longest:,}",
                where=f"generator.model {self.settings.model}",
                fix="Lower `examples`, or choose a model with a longer context",
            )
        ids = torch.full((len(prompts), width), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
            mask[row, width - len(prompt) :] = 1
        sampled = {
            "do_sample": True,
            "temperature": self.settings.temperature,
            "top_p": self.settings.top_p,
            "top_k": 0,
        }
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=min(self.settings.max_tokens, longest - width),
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=ends,
                **(sampled if self.settings.temperature > 0 else greedy),
            )
        answers, decode = [], answer_reader(tokenizer)
        for tokens in out[:, width:].tolist():
            text = without_thought(decode(tokens))
            answers.append(CutOff(text) if set(ends).isdisjoint(tokens) else text)
        return answers
