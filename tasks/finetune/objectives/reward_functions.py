"""Reward functions for TRL's GRPOTrainer, one per entry of `finetune.grpo.rewards`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.base.load import load_trained
from tasks.errors import TrainingError
from tasks.finetune.config.objective_settings import RewardFunction
from tasks.finetune.objectives.trl_dataset import padded
from tasks.finetune.work import Work
from tasks.runtime.bounded_regex import SLOW_FIX, compile_pattern, matches_all, too_slow
from tasks.sandbox.run_programs import NO_PROGRAM, Limits, Program, open_sandbox
from tasks.scoring.code_answers import programs_of
from tasks.scoring.read_answer import complete_answer
from tasks.scoring.score import ScoredAnswer, score_answer
from tasks.scoring.targets import Frame
from tasks.state.training_start import version_folder

logger = logging.getLogger(__name__)

Function = Callable[..., list[float]]
"""Keyword arguments, one list each: prompts and completion_ids (token ids), completions (texts), and the prompt columns."""


def reward_functions(work: Work) -> list[Function]:
    """In the order of the settings. Each is named as its reward is logged: by its kind, with a number from the second on."""
    makers = {"exact_match": _exact_match, "score": _score, "format": _format, "model": _model, "tests": _tests}
    counts: Counter[str] = Counter()
    functions = []
    for reward in work.settings.grpo.rewards:
        function = makers[reward.kind](reward, work)
        counts[reward.kind] += 1
        number = counts[reward.kind]
        function.__name__ = reward.kind if number == 1 else f"{reward.kind}_{number}"
        functions.append(function)
    return functions


def reward_model_folder(reward: RewardFunction, work: Work) -> Path:
    """The folder of the reward model."""
    folder = version_folder(reward.model) if reward.model is not None else work.reward_model
    assert folder is not None, "the settings reject a training without its reward model"
    return folder


def _exact_match(reward: RewardFunction, work: Work) -> Function:
    def rewards(completions: Sequence[str], **row: Any) -> list[float]:
        return [float(scored.exact) for scored in _scored(completions, row)]

    return rewards


def _score(reward: RewardFunction, work: Work) -> Function:
    def rewards(completions: Sequence[str], **row: Any) -> list[float]:
        return [scored.score for scored in _scored(completions, row)]

    return rewards


def _tests(reward: RewardFunction, work: Work) -> Function:
    sandbox = open_sandbox(Limits(), setting="finetune.grpo.rewards")
    is_empty: dict[str, bool] = {}

    def note_empty(texts: Sequence[str]) -> None:
        """Notes which tests pass with an empty program: as in evaluation, their rows count as rows without tests."""
        new = sorted({text for text in texts if text} - is_empty.keys())
        outcomes = sandbox.run([Program(NO_PROGRAM, text) for text in new])
        is_empty.update({text: each.reason == "passed" for text, each in zip(new, outcomes, strict=True)})
        if empty := sum(is_empty[text] for text in new):
            logger.warning(f"finetune: no reward for rows with tests that pass without any answer ({empty})")

    def rewards(
        completions: Sequence[str], tests: Sequence[str], stub: Sequence[str], opens_thought: Sequence[bool], **_: Any
    ) -> list[float]:
        answers = [complete_answer(answer, opens) for answer, opens in zip(completions, opens_thought, strict=True)]
        note_empty(tests)
        programs = {
            index: Program(programs_of(answers[index], stub[index]), text)
            for index, text in enumerate(tests)
            if text and not is_empty[text]
        }
        outcomes = dict(zip(programs, sandbox.run(list(programs.values())), strict=True))
        return [float(index in outcomes and outcomes[index].reason == "passed") for index in range(len(answers))]

    return rewards


def _scored(completions: Sequence[str], row: dict[str, Any]) -> list[ScoredAnswer]:
    answers = zip(
        completions,
        *(row[name] for name in ("opens_thought", "kind", "target", "before", "after", "question")),
        strict=True,
    )
    return [
        score_answer(
            kind,
            complete_answer(answer, opens_thought),
            target,
            Frame(before, after),
            question=question,
        )
        for answer, opens_thought, kind, target, before, after, question in answers
    ]


def _format(reward: RewardFunction, work: Work) -> Function:
    pattern = compile_pattern(reward.pattern or "")

    def rewards(completions: Sequence[str], **_: Any) -> list[float]:
        return [float(matches(answer)) for answer in completions]

    def matches(answer: str) -> bool:
        try:
            return matches_all(pattern, answer)
        except TimeoutError as error:
            what = f"the pattern `{reward.pattern}` {too_slow(answer)}"
            raise TrainingError(what, where="params.yaml, finetune.grpo.rewards", fix=SLOW_FIX) from error

    return rewards


def _model(reward: RewardFunction, work: Work) -> Function:
    model = load_trained(reward_model_folder(reward, work), work.record)

    def rewards(prompts: Sequence[list[int]], completion_ids: Sequence[list[int]], **_: Any) -> list[float]:
        sequences = [prompt + answer for prompt, answer in zip(prompts, completion_ids, strict=True)]
        ids = padded(sequences, model.config.get_text_config().pad_token_id).to(model.device)
        mask = padded([[1] * len(sequence) for sequence in sequences], 0).to(model.device)
        with torch.inference_mode():
            scores: list[float] = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0].tolist()
        return scores

    return rewards
