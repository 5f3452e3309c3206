"""Objective `grpo`: sampled answers, by their rewards relative to the other answers to the same prompt (Shao et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler, SequentialSampler
from trl import GRPOTrainer

from tasks.base.generation import answer_reader
from tasks.dataset.rendered import read_rows
from tasks.errors import TrainingError
from tasks.finetune.config.trainer_arguments import training_arguments
from tasks.finetune.model.build import build_model
from tasks.finetune.model.context_length import longest_row, max_row_tokens
from tasks.finetune.objectives.reward_functions import reward_functions
from tasks.finetune.objectives.sft import require_rows
from tasks.finetune.objectives.trl_dataset import TokenRows, count_tokens
from tasks.finetune.objectives.trl_trainer import TokenTrainer, prepared_training, tokenizer_of
from tasks.finetune.work import PreparedTraining, Work


def prepare(work: Work) -> PreparedTraining:
    """Prompts with several sampled answers each. Validation measures the mean reward of one answer per prompt.

    Progress counts each answer with its maximum length.

    Raises:
        DataError: no rows.
        TrainingError: a prompt and its answer may exceed the context length.
    """
    grpo = work.settings.grpo
    train, valid = read_rows("train", "prompts"), read_rows("valid", "prompts")
    require_rows(work, len(train), len(valid))
    longest = longest_row(*(rows.select(["prompt_ids"]) for rows in (train, valid)))
    _require_fits_context(work, longest + grpo.max_answer_tokens)
    prompt_tokens = count_tokens(train, "prompt_ids")

    def make_trainer(callbacks: list[Any]) -> Any:
        return TokenGrpoTrainer(
            model=build_model(work),
            tokenizer=tokenizer_of(work),
            args=training_arguments(work, len(train), len(valid)),
            reward_funcs=reward_functions(work),
            train_dataset=TokenRows(_with_prompt_column(train)),
            eval_dataset=TokenRows(_with_prompt_column(valid)) if len(valid) else None,
            callbacks=callbacks,
        )

    tokens = grpo.answers * (prompt_tokens + len(train) * grpo.max_answer_tokens)
    facts = {"prompt_tokens": prompt_tokens, "answers": grpo.answers}
    return prepared_training(work, len(train), tokens, make_trainer, facts)


def _with_prompt_column(rows: Any) -> Any:
    """Renames `prompt_ids` to `prompt`, as TRL expects."""
    return rows.rename_columns(["prompt" if name == "prompt_ids" else name for name in rows.column_names])


def _require_fits_context(work: Work, tokens: int) -> None:
    """Raises TrainingError where the longest prompt and its answer exceed the context length."""
    positions = max_row_tokens(work)
    if positions is not None and tokens > positions:
        what = f"prompts and answers have up to {tokens} tokens, and the context length of the model is {positions}"
        raise TrainingError(what, where="finetune.grpo.max_answer_tokens", fix="Lower it, or render.max_length_tokens")


class PromptSampler(Sampler[int]):  # type: ignore[misc]
    """Prompt indices, shuffled per epoch. Each index is repeated once per answer, and each group of prompts `repeats` times.

    The last group of an epoch is filled with the epoch's first prompts. The order depends on seed and epoch only, so that a resumed
    training sees the same prompts as an uninterrupted one.

    Args:
        prompts: number of prompts.
        answers: answers per prompt.
        group_prompts: prompts whose answers are sampled together: those of a global batch.
        repeats: how often TRL reads a group: once per forward pass, though it samples the answers only once.
    """

    def __init__(self, prompts: int, answers: int, group_prompts: int, repeats: int, seed: int) -> None:
        self.prompts, self.answers, self.group_prompts, self.repeats = prompts, answers, group_prompts, repeats
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        groups = -(-self.prompts // self.group_prompts)
        return groups * self.group_prompts * self.answers * self.repeats

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.prompts, generator=generator).tolist()
        padded = len(self) // (self.answers * self.repeats)
        order = [order[index % self.prompts] for index in range(padded)]
        for first in range(0, padded, self.group_prompts):
            for _ in range(self.repeats):
                for prompt in order[first : first + self.group_prompts]:
                    yield from [prompt] * self.answers


class TokenGrpoTrainer(TokenTrainer, GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, but prompts are token ids, in an order that a resumed training reproduces."""

    def __init__(self, *, tokenizer: Any, **arguments: Any) -> None:
        super().__init__(tokenizer=tokenizer, **arguments)
        self.processing_class = _AnswerDecoder(tokenizer)

    def _get_train_sampler(self, dataset: Any = None) -> PromptSampler:
        rows, group = len(self.train_dataset), self.args.generation_batch_size // self.num_generations
        return PromptSampler(rows, self.num_generations, group, self.args.steps_per_generation, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        return SequentialSampler(eval_dataset)

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.record_rows(list(dict.fromkeys(row["row_id"] for row in inputs)), self.model.training)
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return batch

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, *more: Any, **named: Any
    ) -> Any:
        """With the same positions as in generation, as prompts are padded on the left."""

        def model_with_positions(**inputs: Any) -> Any:
            positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
            return model(**inputs, position_ids=positions)

        return super()._get_per_token_logps_and_entropies(
            model_with_positions, input_ids, attention_mask, *more, **named
        )


class _AnswerDecoder:
    """Decodes answers as evaluation does; the Trainer neither saves it nor aligns the model with it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._read = answer_reader(tokenizer)

    def batch_decode(self, answers: list[list[int]], **_: Any) -> list[str]:
        return [self._read(ids) for ids in answers]

    def save_pretrained(self, folder: str) -> None:
        """Does nothing: a checkpoint needs no tokenizer."""
