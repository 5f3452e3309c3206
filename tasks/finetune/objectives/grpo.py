"""Objective `grpo`: the model's own answers, by how they are rewarded among those to the same prompt (Shao et al., 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import SequentialSampler
from trl import GRPOTrainer

from tasks.base.generation import answer_reader
from tasks.dataset.rendered import read_rows
from tasks.errors import TrainingError
from tasks.finetune.model.build import build_model
from tasks.finetune.model.context_length import longest_row, max_row_tokens
from tasks.finetune.objectives.grpo_sampler import PromptGroups
from tasks.finetune.objectives.reward_functions import reward_functions
from tasks.finetune.objectives.sft import require_rows
from tasks.finetune.objectives.trl_dataset import TokenRows, count_tokens
from tasks.finetune.objectives.trl_trainer import TokenTrainer, prepared, tokenizer_of, trl_arguments
from tasks.finetune.work import PreparedTraining, Work


def prepare(work: Work) -> PreparedTraining:
    """Prompts, each answered several times. Of the validation side, the mean reward is measured, of one answer to each prompt.

    Progress counts every answer as if it were as long as may be.

    Raises:
        DataError: there are none.
        TrainingError: a prompt and its answer may be longer than the model reads.
    """
    chosen = work.settings.grpo
    train, valid = read_rows("train", "prompts"), read_rows("valid", "prompts")
    require_rows(work, len(train), len(valid))
    longest = longest_row(*(rows.select(["prompt_ids"]) for rows in (train, valid)))
    _require_positions(work, longest + chosen.max_answer_tokens)
    prompt_tokens = count_tokens(train, "prompt_ids")

    def make_trainer(callbacks: list[Any]) -> Any:
        return RewardedTrainer(
            model=build_model(work),
            tokenizer=tokenizer_of(work),
            args=_arguments(work, len(train), len(valid)),
            reward_funcs=reward_functions(work),
            train_dataset=TokenRows(_asked(train)),
            eval_dataset=TokenRows(_asked(valid)) if len(valid) else None,
            callbacks=callbacks,
        )

    tokens = chosen.answers * (prompt_tokens + len(train) * chosen.max_answer_tokens)
    facts = {"prompt_tokens": prompt_tokens, "answers": chosen.answers}
    return prepared(work, len(train), tokens, make_trainer, facts)


def _asked(rows: Any) -> Any:
    """TRL calls it `prompt`."""
    return rows.rename_columns(["prompt" if name == "prompt_ids" else name for name in rows.column_names])


def _arguments(work: Work, train_rows: int, valid_rows: int) -> Any:
    settings, chosen = work.settings, work.settings.grpo
    answers_at_once = settings.micro_batch_rows * chosen.answers
    return trl_arguments(
        work, train_rows, valid_rows,
        beta=chosen.beta,
        temperature=chosen.temperature,
        num_generations=chosen.answers,
        num_generations_eval=1,
        max_completion_length=chosen.max_answer_tokens,
        reward_weights=[reward.weight for reward in chosen.rewards],
        per_device_train_batch_size=answers_at_once,
        per_device_eval_batch_size=answers_at_once,
        steps_per_generation=None,  # once a step: a checkpoint then never stands between answers and what is learnt of them
        generation_batch_size=None,
        num_iterations=1,
        disable_dropout=True,
        generation_kwargs={"use_cache": True},
        log_completions=False,
    )  # fmt: skip


def _require_positions(work: Work, tokens: int) -> None:
    """Raises TrainingError where the longest prompt and its answer pass the last position that the model has."""
    positions = max_row_tokens(work)
    if positions is not None and tokens > positions:
        what = f"prompts and answers of up to {tokens} tokens pass the {positions} positions of the model"
        raise TrainingError(what, where="finetune.grpo.max_answer_tokens", fix="Lower it, or render.max_length_tokens")


class RewardedTrainer(TokenTrainer, GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, but: prompts come as token ids, in an order that a resumed training finds again."""

    def __init__(self, *, tokenizer: Any, **arguments: Any) -> None:
        super().__init__(tokenizer=tokenizer, **arguments)
        self.processing_class = _Reader(tokenizer)

    def _get_train_sampler(self, dataset: Any = None) -> PromptGroups:
        rows, group = len(self.train_dataset), self.args.generation_batch_size // self.num_generations
        return PromptGroups(rows, self.num_generations, group, self.args.steps_per_generation, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        return SequentialSampler(eval_dataset)

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.remember(list(dict.fromkeys(row["row_id"] for row in inputs)), self.model.training)
        made: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return made

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, *more: Any, **named: Any
    ) -> Any:
        """With the positions that the answers were made at: prompts are padded on the left."""

        def positioned(**inputs: Any) -> Any:
            places = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
            return model(**inputs, position_ids=places)

        return super()._get_per_token_logps_and_entropies(positioned, input_ids, attention_mask, *more, **named)


class _Reader:
    """Reads answers as evaluation does, and is nothing that the Trainer would save or align the model with."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._read = answer_reader(tokenizer)

    def batch_decode(self, answers: list[list[int]], **_: Any) -> list[str]:
        return [self._read(ids) for ids in answers]

    def save_pretrained(self, folder: str) -> None:
        """Nothing: a checkpoint needs none."""
