"""Recipe `self_instruct`: new tasks from seed tasks (Self-Instruct, arXiv 2212.10560).

A round generates instructions, keeps those that are not similar to any in the pool, classifies each, and generates examples of it.
Every draw is seeded, so that an interrupted recipe has the same prompts again, and their stored answers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.build.answers import CachedGenerator
from tasks.build.prompts import (
    WORDS,
    Instance,
    Task,
    classification_prompt,
    instances_prompt,
    parse_instances,
    parse_is_classification,
    parse_tasks,
    tasks_prompt,
)
from tasks.build.refusals import drop_conflicting, refuse_instance, refuse_instruction
from tasks.build.row_collector import RowCollector, prompt_key
from tasks.build.settings import Recipe
from tasks.build.similarity_pool import Pool
from tasks.errors import ConfigError, SourceError
from tasks.records.raw_batch import digest_of

SHOWN_KINDS = 8
"""Tasks in a prompt that classifies a task; half as many in a prompt for its examples, which are longer."""

NewTask = tuple[str, list[str]]
"""A new instruction, and the digests of the seed tasks in its prompt."""


def read_seeds(path: str) -> list[Task]:
    """The seed tasks.

    Raises:
        SourceError: the file cannot be read, or a line is not a seed task.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot be read ({error})", where=path, fix="Correct the recipe's `seeds`") from error
    tasks = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            instances = tuple((str(i.get("input") or ""), str(i["output"])) for i in record["instances"])
            kind = bool(record.get("is_classification", False))
            tasks.append(Task(str(record["instruction"]), instances, kind, digest_of(record)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            fix = "A line is: {instruction, instances: [{input, output}], is_classification}"
            raise SourceError(f"not a seed task ({error!r})", where=f"{path} line {number}", fix=fix) from error
    return tasks


def generate_rows(
    recipe: Recipe, generator: CachedGenerator, collector: RowCollector, advance: Callable[[int], None]
) -> None:
    """Adds up to `recipe.rows` rows to `collector`, round by round.

    Raises:
        ConfigError: there are fewer seed tasks than a prompt needs.
        StropError: raised by the generator; the earlier answers are stored.
    """
    assert recipe.seeds is not None
    seeds = [task for task in read_seeds(recipe.seeds) if not _is_held_out(task, collector)]
    if len(seeds) < recipe.examples:
        what = f"{len(seeds)} seed tasks that are not held-out rows, but a prompt shows {recipe.examples}"
        raise ConfigError(what, where=recipe.seeds, fix="Add seed tasks, or lower `examples`")
    recipe_run = _RecipeRun(recipe, seeds, generator, collector)
    for number in range(recipe.max_rounds):
        before = len(collector.rows)
        recipe_run.round(random.Random(f"{recipe.seed}:{number}"))
        advance(len(collector.rows) - before)
        if collector.is_full:
            return


def _is_held_out(task: Task, collector: RowCollector) -> bool:
    keys = {prompt_key({"instruction": task.instruction, "input": text}) for text, _ in task.instances}
    is_held_out = not collector.held_out.isdisjoint(keys)
    if is_held_out:
        collector.refuse("seed_held_out")
    return is_held_out


class _RecipeRun:
    """The state of a recipe between rounds: the pool, and the instructions generated so far."""

    def __init__(
        self, recipe: Recipe, seeds: Sequence[Task], generator: CachedGenerator, collector: RowCollector
    ) -> None:
        self.recipe, self.seeds, self.generator, self.collector = recipe, seeds, generator, collector
        self.words = WORDS[recipe.language]
        self.pool = Pool(recipe.max_similarity)
        self.generated: list[str] = []
        for task in seeds:
            self.pool.add(task.instruction)

    def round(self, draw: random.Random) -> None:
        tasks = self._new_tasks(draw)
        if not tasks:
            return
        shown = draw.sample(self.seeds, min(SHOWN_KINDS, len(self.seeds)))
        prompts = [classification_prompt(text, shown, self.words) for text, _ in tasks]
        kinds = [parse_is_classification(answer) for answer in self.generator.complete(prompts)]
        prompts = [self._instances_prompt(text, kind, draw) for (text, _), kind in zip(tasks, kinds, strict=True)]
        answers = self.generator.complete(prompts)
        for (text, parents), kind, answer in zip(tasks, kinds, answers, strict=True):
            instances, cut_off = parse_instances(answer, label_first=kind)
            self.collector.refused.update({"cut_off": cut_off} if cut_off else {})
            self._add(text, instances, parents)

    def _new_tasks(self, draw: random.Random) -> list[NewTask]:
        """New instructions that are not similar to any in the pool."""
        shown = [self._shown(draw) for _ in range(self.recipe.prompts_per_round)]
        prompts = [tasks_prompt(texts, self.words) for texts, _ in shown]
        tasks: list[NewTask] = []
        for (_, parents), answer in zip(shown, self.generator.complete(prompts), strict=True):
            texts, cut_off = parse_tasks(answer)
            self.collector.refused.update({"cut_off": cut_off} if cut_off else {})
            for text in texts:
                reason = refuse_instruction(text, self.recipe.language)
                if reason is None and self.pool.has_similar(text):
                    reason = "too_similar"
                if reason is not None:
                    self.collector.refuse(reason)
                    continue
                self.pool.add(text)
                tasks.append((text, parents))
        self.generated += [text for text, _ in tasks]
        return tasks

    def _shown(self, draw: random.Random) -> tuple[list[str], list[str]]:
        """Instructions to show, up to a quarter of them generated ones, and the digests of the seeds among them."""
        generated = draw.sample(self.generated, min(self.recipe.examples // 4, len(self.generated)))
        seeds = draw.sample(list(self.seeds), self.recipe.examples - len(generated))
        texts = [*(task.instruction for task in seeds), *generated]
        draw.shuffle(texts)
        return texts, [task.digest for task in seeds]

    def _instances_prompt(self, text: str, kind: bool, draw: random.Random) -> str:
        same_kind = [task for task in self.seeds if task.is_classification == kind] or list(self.seeds)
        shown = draw.sample(same_kind, min(SHOWN_KINDS // 2, len(same_kind)))
        return instances_prompt(text, shown, self.words, label_first=kind)

    def _add(self, text: str, instances: list[Instance], parents: list[str]) -> None:
        good = []
        for instance in instances:
            if reason := refuse_instance(text, instance):
                self.collector.refuse(reason)
            else:
                good.append(instance)
        kept, conflicting = drop_conflicting(good)
        self.collector.refused.update({"conflicting_outputs": conflicting} if conflicting else {})
        if not instances:
            self.collector.refuse("no_example")
        for input_text, output in kept:
            if self.collector.is_full:
                return
            self.collector.add({"instruction": text, "input": input_text, "output": output}, parents)
