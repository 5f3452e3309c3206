"""Room `build`: recipes → rows as JSONL in a folder that a declared source ingests. Run: `strop data build`

A file is never changed afterwards; a further run of a recipe writes new rows into another file, or nothing. The answers of
generators are stored in .strop/build, so that none is paid for twice.
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
from tasks.build.answers import AnswersMissing, CachedGenerator
from tasks.build.generator import Generator, Translator
from tasks.build.parent_rows import DatasetRows, choose_parents, read_dataset_rows
from tasks.build.row_collector import RowCollector
from tasks.build.settings import Recipe
from tasks.build.write import not_yet_written, source_of, write_rows
from tasks.errors import ConfigError, DataError, StropError
from tasks.model_store.ledger import champion_version, read_ledger
from tasks.runtime.progress import track

if TYPE_CHECKING:
    from tasks.build.settings import Generator as GeneratorSettings
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

IDENTITY = ("base_url", "api", "model", "max_tokens", "temperature", "top_p")
"""The settings of a generator that affect its answers."""


@dataclass
class RecipeResult:
    """The rows and answers of one recipe; the field names are the keys of `--json`."""

    recipe: str
    kind: str
    made: int = 0
    new: int = 0
    """Rows of these that are in no earlier file."""
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → number of refused rows, most frequent first."""
    generated: int = 0
    """Generated answers."""
    remembered: int = 0
    """Stored answers of earlier runs."""
    not_generated: int = 0
    """Answers that would be generated next, in a dry run; the number of further ones depends on them."""
    file: str | None = None
    """The file with the new rows."""
    collected_by: str | None = None
    """The source that collects the file; None if no source does."""


def run(config: PipelineConfig) -> None:
    """Generates the rows of every recipe."""
    for result in build(config):
        logger.info(f"build: {result.recipe}: {result.new:,} new rows of {result.made:,}")


def build(config: PipelineConfig, only: str | None = None, dry_run: bool = False) -> list[RecipeResult]:
    """Generates the rows of every recipe, or of the recipe `only`.

    Args:
        dry_run: write nothing and call no generator: use only stored answers and templates.

    Raises:
        ConfigError: there is no such recipe, or one is invalid.
        StropError: of a generator, translator or file; the answers so far are stored, and the earlier recipes are done.
    """
    recipes = [recipe for recipe in config.build.recipes if only in (None, recipe.name)]
    if not recipes:
        names = ", ".join(recipe.name for recipe in config.build.recipes) or "none yet"
        where = "params.yaml" if only is None else f"recipe {only}"
        raise ConfigError(f"no such recipe; there are: {names}", where=where, fix="Declare it in section `build`")
    with _locked():
        dataset = read_dataset_rows({recipe.family for recipe in recipes if recipe.family})
        return [_build(recipe, config, dataset, dry_run) for recipe in recipes]


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Prevents that two processes write the same files or pay for the same answers."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(paths.LOCKS / "build.lock", timeout=0):
            yield
    except Timeout as error:
        raise DataError("another `strop data build` is running", fix="Wait until it ends, then run again") from error


def _build(recipe: Recipe, config: PipelineConfig, dataset: DatasetRows, dry_run: bool) -> RecipeResult:
    result = RecipeResult(recipe.name, recipe.kind)
    collector = RowCollector(recipe.name, recipe.rows, dataset.held_out)
    generators: list[CachedGenerator] = []
    with track(f"build-{recipe.name}", total=recipe.rows, unit="rows") as progress:
        try:
            _generate(recipe, dataset, collector, progress.advance, _opener(recipe, config, dry_run, generators))
        except AnswersMissing as missing:
            result.not_generated = missing.count
        except StropError:  # the rows until then are of use
            _write(collector, result, config, dry_run)
            if result.file:
                logger.warning(f"build: {recipe.name} stopped; {result.new:,} new rows are in {result.file}")
            raise
    result.made = len(collector.rows)
    result.refused = dict(collector.refused.most_common())
    result.generated, result.remembered = sum(g.generated for g in generators), sum(g.cached for g in generators)
    _write(collector, result, config, dry_run)
    return result


def _write(collector: RowCollector, result: RecipeResult, config: PipelineConfig, dry_run: bool) -> None:
    folder = Path(config.build.folder) / result.recipe
    new = not_yet_written(collector.rows, folder)
    result.new = len(new)
    if new and not dry_run:
        path = write_rows(new, folder)
        result.file = str(path)
        result.collected_by = source_of(path, config.ingest.sources)


Open = Callable[[str | None], CachedGenerator]
"""A language (for a user's translator) or None → its generator."""


def _opener(recipe: Recipe, config: PipelineConfig, dry_run: bool, opened: list[CachedGenerator]) -> Open:
    def open_cached(language: str | None) -> CachedGenerator:
        if recipe.translator is not None:
            assert language is not None
            identity: list[Any] = ["translator", recipe.translator, language]
            generator: Any = Translator(recipe.translator, language)
        else:
            assert recipe.generator is not None
            settings = recipe.generator
            is_champion = settings.base_url is None and settings.model == "champion"
            entries = read_ledger(config.register_.model_name) if is_champion else []
            # another champion gives other answers
            identity = [
                "generator",
                *(getattr(settings, name) for name in IDENTITY),
                recipe.seed,
                champion_version(entries),
            ]
            generator = open_generator(settings, config, recipe.seed)
        opened.append(CachedGenerator(None if dry_run else generator, identity, recipe.name))
        return opened[-1]

    return open_cached


def open_generator(settings: GeneratorSettings, config: PipelineConfig, seed: int) -> Generator:
    """The generator of these settings. Nothing is loaded or requested before its first use."""
    if settings.base_url is not None:
        from tasks.build.endpoint import Endpoint

        return Endpoint(settings)
    from tasks.build.local import LocalModel

    return LocalModel(settings, config, seed)


def _generate(
    recipe: Recipe, dataset: DatasetRows, collector: RowCollector, advance: Callable[[int], None], open_: Open
) -> None:
    if recipe.kind == "records":
        from_records.generate_rows(recipe, collector, advance)
    elif recipe.kind == "self_instruct":
        self_instruct.generate_rows(recipe, open_(None), collector, advance)
    else:
        parents = choose_parents(dataset, recipe.family, recipe.seed)
        if not parents:
            what = f"no training row of family {recipe.family} can be a parent"
            raise DataError(what, where=f"recipe {recipe.name}", fix="Collect some, and run: strop run")
        paraphrase.generate_rows(recipe, parents, _reword(recipe, open_), collector, advance)


def _reword(recipe: Recipe, open_: Open) -> paraphrase.Reword:
    if recipe.kind == "paraphrase":
        return paraphrase.paraphraser(open_(None))
    assert recipe.through is not None
    if recipe.translator is None:
        return paraphrase.back_translator(recipe.through, paraphrase.prompted_translator(open_(None)))
    opened: dict[str, CachedGenerator] = {}

    def translate(texts: Sequence[str], to_language: str) -> list[str]:
        if to_language not in opened:
            opened[to_language] = open_(to_language)
        return opened[to_language].complete(texts)

    return paraphrase.back_translator(recipe.through, translate)
