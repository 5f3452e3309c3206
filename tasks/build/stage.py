"""Room `build`: recipes → rows as JSONL in a folder that a declared source ingests. Run: `strop data build`

A file is never changed afterwards; running a recipe again writes what is new into another one, or nothing. The answers of
generators are kept in .strop/build, so that none is paid for twice.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.build import from_records, paraphrase, self_instruct
from tasks.build.answers import Answers, NotAnswered
from tasks.build.open_generator import open_generator
from tasks.build.parent_rows import Held, choose_parents, read_held
from tasks.build.row_collector import Made
from tasks.build.settings import Recipe
from tasks.build.translator import Translator
from tasks.build.write import not_yet_written, source_of, write_rows
from tasks.errors import ConfigError, DataError, StropError
from tasks.runtime.progress import track

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

PAID = ("base_url", "api", "model", "max_tokens", "temperature", "top_p")
"""The settings of a generator that its answers depend on."""


@dataclass
class Built:
    """What became of one recipe."""

    recipe: str
    kind: str
    made: int = 0
    new: int = 0
    """Rows of these that no file held yet."""
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → how many, most first."""
    asked: int = 0
    """Answers that a generator was asked for."""
    remembered: int = 0
    """Answers that were kept from before."""
    not_asked: int = 0
    """Answers that a dry run would have asked for next; how many would follow depends on them."""
    file: str | None = None
    """Where the new rows stand."""
    collected_by: str | None = None
    """The source that collects the file; None where no source does."""


def run(config: PipelineConfig) -> None:
    """Makes the rows of every recipe."""
    for built in build(config):
        logger.info(f"build: {built.recipe}: {built.new:,} new rows of {built.made:,}")


def build(config: PipelineConfig, only: str | None = None, dry_run: bool = False) -> list[Built]:
    """Makes the rows of every recipe, or of the one that is named.

    Args:
        dry_run: write nothing, and ask no generator: only what is already answered, and the templates, are gone through.

    Raises:
        ConfigError: there is no such recipe, or one is wrong.
        StropError: a generator's, translator's or file's; what was answered is kept, and the recipes before are done.
    """
    recipes = [recipe for recipe in config.build.recipes if only in (None, recipe.name)]
    if not recipes:
        known = ", ".join(recipe.name for recipe in config.build.recipes) or "none yet"
        where = "params.yaml" if only is None else f"recipe {only}"
        raise ConfigError(f"no such recipe; there are: {known}", where=where, fix="Declare it in section `build`")
    with _only_one():
        return _build_all(recipes, config, dry_run)


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Lets no second process write the same files, or pay for the same answers."""
    from filelock import FileLock, Timeout

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(paths.LOCKS / "build.lock", timeout=0):
            yield
    except Timeout as error:
        raise DataError("another `strop data build` is under way", fix="Wait until it ends, then run again") from error


def _build_all(recipes: Sequence[Recipe], config: PipelineConfig, dry_run: bool) -> list[Built]:
    held = read_held({recipe.family for recipe in recipes if recipe.family})
    return [_build(recipe, config, held, dry_run) for recipe in recipes]


def _build(recipe: Recipe, config: PipelineConfig, held: Held, dry_run: bool) -> Built:
    built, made = Built(recipe.name, recipe.kind), Made(recipe.name, recipe.rows, held.tested_on)
    answers: list[Answers] = []
    with track(f"build-{recipe.name}", total=recipe.rows, unit="rows") as progress:
        try:
            _make(recipe, config, held, made, progress.advance, _opener(recipe, config, dry_run, answers))
        except NotAnswered as stopped:
            built.not_asked = stopped.count
        except StropError:  # a generator that stopped: what it brought until then is of use
            _write(made, built, config, dry_run)
            if built.file:
                logger.warning(f"build: {recipe.name} stopped; {built.new:,} new rows stand in {built.file}")
            raise
    built.made = len(made.rows)
    built.refused = dict(made.refused.most_common())
    built.asked, built.remembered = sum(a.asked for a in answers), sum(a.remembered for a in answers)
    _write(made, built, config, dry_run)
    return built


def _write(made: Made, built: Built, config: PipelineConfig, dry_run: bool = False) -> None:
    folder = Path(config.build.folder) / built.recipe
    new = not_yet_written(made.rows, folder)
    built.new = len(new)
    if new and not dry_run:
        path = write_rows(new, folder)
        built.file = str(path)
        built.collected_by = source_of(path, config.ingest.sources)


Open = Callable[[str | None], Answers]
"""A language (for a user's translator) or None → a generator with a memory."""


def _opener(recipe: Recipe, config: PipelineConfig, dry_run: bool, opened: list[Answers]) -> Open:
    def open_answers(language: str | None) -> Answers:
        if recipe.translator is not None:
            assert language is not None
            identity: list[Any] = ["translator", recipe.translator, language]
            generator: Any = Translator(recipe.translator, language)
        else:
            assert recipe.generator is not None
            settings = recipe.generator
            identity = ["generator", *(getattr(settings, name) for name in PAID), recipe.seed]
            identity.append(_serving(config) if settings.base_url is None and settings.model == "champion" else None)
            generator = open_generator(settings, config, recipe.seed)
        opened.append(Answers(None if dry_run else generator, identity, recipe.name))
        return opened[-1]

    return open_answers


def _serving(config: PipelineConfig) -> int | None:
    """The champion's version: another champion gives other answers."""
    from tasks.model_store.ledger import champion_of, read_ledger

    entry = champion_of(read_ledger(config.register_.model_name))
    return entry.version if entry else None


def _make(
    recipe: Recipe, config: PipelineConfig, held: Held, made: Made, advance: Callable[[int], None], open_: Open
) -> None:
    if recipe.kind == "records":
        from_records.make(recipe, made, advance)
    elif recipe.kind == "self_instruct":
        self_instruct.make(recipe, open_(None), made, advance)
    else:
        parents = choose_parents(held, recipe.family, recipe.seed)
        if not parents:
            told = f"no training row of family {recipe.family} that could be a parent"
            raise DataError(told, where=f"recipe {recipe.name}", fix="Collect some, and run: strop run")
        paraphrase.make(recipe, parents, _reword(recipe, open_), made, advance)


def _reword(recipe: Recipe, open_: Open) -> paraphrase.Reword:
    if recipe.kind == "paraphrase":
        return paraphrase.paraphraser(open_(None))
    assert recipe.through is not None
    if recipe.translator is None:
        return paraphrase.back_translator(recipe.through, paraphrase.translate_by(open_(None)))
    opened: dict[str, Answers] = {}

    def translate(texts: Sequence[str], to_language: str) -> list[str]:
        if to_language not in opened:
            opened[to_language] = open_(to_language)
        return opened[to_language].complete(texts)

    return paraphrase.back_translator(recipe.through, translate)
