"""Recipe `self_instruct`: new tasks from seed tasks (Self-Instruct, arXiv 2212.10560).

A round asks for instructions, keeps those that are unlike all in the pool, asks of each whether it is a classification, and
asks for examples of it. Every draw is seeded, so that a recipe that was stopped asks the same again and finds its answers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.build.answers import Answers
from tasks.build.prompts import (
    WORDS,
    Instance,
    Task,
    ask_for_instances,
    ask_for_kind,
    ask_for_tasks,
    read_instances,
    read_kind,
    read_tasks,
)
from tasks.build.refusals import drop_conflicting, refuse_instance, refuse_instruction
from tasks.build.row_collector import Made, digest_of, prompt_key
from tasks.build.settings import Recipe
from tasks.build.similarity_pool import Pool
from tasks.errors import ConfigError, SourceError

SHOWN_KINDS = 8
"""Tasks shown when asking for a task's kind; half as many when asking for its examples, which are longer."""

Found = tuple[str, list[str]]
"""A new instruction, and the digests of the seed tasks that it was shown with."""


def read_seeds(path: str) -> list[Task]:
    """The seed tasks.

    Raises:
        SourceError: the file cannot be read, or a line is no seed task.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot be read ({error})", where=path, fix="Mend the recipe's `seeds`") from error
    tasks = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            instances = tuple((str(each.get("input") or ""), str(each["output"])) for each in record["instances"])
            kind = bool(record.get("is_classification", False))
            tasks.append(Task(str(record["instruction"]), instances, kind, digest_of(record)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            fix = "A line is: {instruction, instances: [{input, output}], is_classification}"
            raise SourceError(f"no seed task ({error!r})", where=f"{path} line {number}", fix=fix) from error
    return tasks


def make(recipe: Recipe, answers: Answers, made: Made, advance: Callable[[int], None]) -> None:
    """Adds up to `recipe.rows` rows to `made`, round by round.

    Raises:
        ConfigError: there are fewer seed tasks than a prompt shows.
        StropError: the generator's; what was answered is kept.
    """
    assert recipe.seeds is not None
    seeds = [task for task in read_seeds(recipe.seeds) if not _is_tested_on(task, made)]
    if len(seeds) < recipe.examples:
        told = f"{len(seeds)} seed tasks that nobody is tested on, {recipe.examples} are shown in a prompt"
        raise ConfigError(told, where=recipe.seeds, fix="Add seed tasks, or lower `examples`")
    writer = _Writer(recipe, seeds, answers, made)
    for number in range(recipe.max_rounds):
        before = len(made.rows)
        writer.round(random.Random(f"{recipe.seed}:{number}"))
        advance(len(made.rows) - before)
        if made.is_enough:
            return


def _is_tested_on(task: Task, made: Made) -> bool:
    keys = {prompt_key({"instruction": task.instruction, "input": given}) for given, _ in task.instances}
    is_so = not made.held_out.isdisjoint(keys)
    if is_so:
        made.refuse("seed_held_out")
    return is_so


class _Writer:
    """The state of a recipe between rounds: the pool, and the instructions made so far."""

    def __init__(self, recipe: Recipe, seeds: Sequence[Task], answers: Answers, made: Made) -> None:
        self.recipe, self.seeds, self.answers, self.made = recipe, seeds, answers, made
        self.words = WORDS[recipe.language]
        self.pool = Pool(recipe.max_similarity)
        self.written: list[str] = []
        for task in seeds:
            self.pool.add(task.instruction)

    def round(self, draw: random.Random) -> None:
        found = self._instructions(draw)
        if not found:
            return
        shown = draw.sample(self.seeds, min(SHOWN_KINDS, len(self.seeds)))
        asked = [ask_for_kind(text, shown, self.words) for text, _ in found]
        kinds = [read_kind(answer) for answer in self.answers.complete(asked)]
        prompts = [self._ask_for_instances(text, kind, draw) for (text, _), kind in zip(found, kinds, strict=True)]
        written = self.answers.complete(prompts)
        for (text, parents), kind, answer in zip(found, kinds, written, strict=True):
            instances, cut_off = read_instances(answer, label_first=kind)
            self.made.refused.update({"cut_off": cut_off} if cut_off else {})
            self._add(text, instances, parents)

    def _instructions(self, draw: random.Random) -> list[Found]:
        """New instructions, unlike all that are known."""
        shown = [self._shown(draw) for _ in range(self.recipe.prompts_per_round)]
        prompts = [ask_for_tasks(texts, self.words) for texts, _ in shown]
        found: list[Found] = []
        for (_, parents), answer in zip(shown, self.answers.complete(prompts), strict=True):
            texts, cut_off = read_tasks(answer)
            self.made.refused.update({"cut_off": cut_off} if cut_off else {})
            for text in texts:
                reason = refuse_instruction(text, self.recipe.language)
                if reason is None and self.pool.has_like(text):
                    reason = "too_similar"
                if reason is not None:
                    self.made.refuse(reason)
                    continue
                self.pool.add(text)
                found.append((text, parents))
        self.written += [text for text, _ in found]
        return found

    def _shown(self, draw: random.Random) -> tuple[list[str], list[str]]:
        """Instructions to show, a quarter of them made ones once there are any, and the digests of the seeds among them."""
        made = draw.sample(self.written, min(self.recipe.examples // 4, len(self.written)))
        seeds = draw.sample(list(self.seeds), self.recipe.examples - len(made))
        texts = [*(task.instruction for task in seeds), *made]
        draw.shuffle(texts)
        return texts, [task.digest for task in seeds]

    def _ask_for_instances(self, text: str, kind: bool, draw: random.Random) -> str:
        alike = [task for task in self.seeds if task.is_classification == kind] or list(self.seeds)
        shown = draw.sample(alike, min(SHOWN_KINDS // 2, len(alike)))
        return ask_for_instances(text, shown, self.words, label_first=kind)

    def _add(self, text: str, instances: list[Instance], parents: list[str]) -> None:
        good = []
        for instance in instances:
            if reason := refuse_instance(text, instance):
                self.made.refuse(reason)
            else:
                good.append(instance)
        kept, conflicting = drop_conflicting(good)
        self.made.refused.update({"conflicting_outputs": conflicting} if conflicting else {})
        if not instances:
            self.made.refuse("no_example")
        for given, output in kept:
            if self.made.is_enough:
                return
            self.made.add({"instruction": text, "input": given, "output": output}, parents)
