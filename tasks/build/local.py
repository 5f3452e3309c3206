"""A model on this machine as a generator: a registered version, the champion, the base, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.build.generator import CutOff, Keep, keep_nothing
from tasks.build.settings import Generator as GeneratorSettings
from tasks.errors import DataError, RegistryError
from tasks.runtime.threads import Threads
from tasks.scoring.targets import without_thought

if TYPE_CHECKING:
    from tasks.base.prompts import Prompts
    from tasks.config import PipelineConfig


class LocalModel:
    def __init__(self, settings: GeneratorSettings, config: PipelineConfig, seed: int) -> None:
        self.settings, self.config, self.seed = settings, config, seed
        self._loaded: tuple[Any, Any] | None = None
        self._prompts: Prompts | None = None

    def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
        """As Generator.complete, in batches of the longest prompts first.

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
        asked = [self._prompt_ids(prompt) for prompt in prompts]
        answers = [""] * len(prompts)
        order = sorted(range(len(asked)), key=lambda place: (-len(asked[place]), place))
        step = self.settings.parallel_requests
        for start in range(0, len(order), step):
            batch = order[start : start + step]
            # drawn by what is asked, so that going on after a stop draws as going through would have
            torch.manual_seed(hash((self.seed, *asked[batch[0]])) & 0x7FFFFFFF)
            for place, text in zip(batch, self._generate([asked[i] for i in batch]), strict=True):
                answers[place] = text
                keep(place, text)
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
            fix = "Take a model that writes: champion, base, a version's number, or a folder"
            raise RegistryError(
                "has a head of labels, and does not write", where=f"generator.model {self.settings.model}", fix=fix
            )
        tokenizer = load_tokenizer(folder)
        self._prompts = Prompts(tokenizer, thinks_by_training(folder))
        return load_trained(folder, record, precision), tokenizer

    def _prompt_ids(self, prompt: str) -> list[int]:
        """The prompt's token ids: as a user's turn, or, for `completions`, as text to go on with."""
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
            fix = "Say champion, base, a version's number (strop history), or a folder that holds a model"
            raise RegistryError("no such model", where=f"generator.model {name}", fix=fix)
        return weights_folder(self.config.register_.model_name, entry.version, entry.weights_digest)

    def _generate(self, asked: list[list[int]]) -> list[str]:
        import torch

        from tasks.base.generation import answer_reader, end_token_ids

        assert self._loaded is not None
        model, tokenizer = self._loaded
        ends = end_token_ids(model, tokenizer)
        width = max(len(ids) for ids in asked)
        longest = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        if width >= longest:
            raise DataError(
                f"a prompt has {width:,} tokens, the model reads {longest:,}",
                where=f"generator.model {self.settings.model}",
                fix="Show fewer examples, or take a model that reads more",
            )
        ids = torch.full((len(asked), width), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(asked):
            ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
            mask[row, width - len(prompt) :] = 1
        drawn = {"do_sample": True, "temperature": self.settings.temperature, "top_p": self.settings.top_p, "top_k": 0}
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=min(self.settings.max_tokens, longest - width),
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=ends,
                **(drawn if self.settings.temperature > 0 else greedy),
            )
        answers, read = [], answer_reader(tokenizer)
        for tokens in out[:, width:].tolist():
            text = without_thought(read(tokens))
            answers.append(CutOff(text) if set(ends).isdisjoint(tokens) else text)
        return answers
