"""The loop: a model is served, people ask it about what it has not learned, and the next one learns from what they say.

strop demo --loop        # .demo-loop/

Round 1 has three of the five news sections. Its model is served by `strop serve`, a process of its own. A simulated population
asks about articles of all sections, corrects answers, and rates others. Round 2 collects that by the source `answers` (kind:
served), trains, and is judged, while the population goes on asking. If its model is better, it serves from then on. Every
request is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from rich.rule import Rule

from flows.demo.data import news_articles, write_records
from flows.demo.loop_page import loop_page
from flows.demo.loop_picture import draw_loop
from flows.demo.population import questions
from flows.demo.rounds import FIRST_SECTIONS, Show, run_and_report
from flows.demo.server import Server, serving
from flows.demo.traffic import Traffic, read_exchanges
from flows.outcome import Outcome
from tasks.config import load_config
from tasks.errors import StropError
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.runtime.loopback import exempt_loopback_from_proxies

logger = logging.getLogger(__name__)

FIRST_ARTICLES = 150
"""Of round 1."""
QUESTIONS = 240
"""Before round 2: about 110 corrections of the two new sections, of which a quarter is tested on."""
MORE_QUESTIONS = 100
"""After round 2."""
FOLDER = Path("loop")
"""In the demo's project."""
EXCHANGES, LOG, PICTURE = FOLDER / "requests.jsonl", FOLDER / "serve.log", FOLDER / "loop.svg"

Serving = Callable[[Path], AbstractContextManager[Server]]


def run_loop(
    show: Show,
    serve: Serving = serving,
    run: Callable[[Show], Outcome] = run_and_report,
    counts: tuple[int, int] = (QUESTIONS, MORE_QUESTIONS),
) -> int:
    """Runs the loop in the current project, and returns the exit code. What was completed before is not done again.

    Args:
        counts: questions before and after round 2.

    Raises:
        StropError: round 1 ended without a champion, the server ended, or requests were not answered.
    """
    exempt_loopback_from_proxies()
    FOLDER.mkdir(exist_ok=True)
    judged = _judged()
    if judged > 1 and EXCHANGES.exists():
        show("[dim]The loop was run before. For another one, remove this folder.[/]")
        return _show_story(show)
    if not judged:
        show(Rule("[bold]Round 1: three of the five news sections[/]", style="magenta"))
        write_records(Path("inbox/bbc-1.jsonl"), _first_articles())
        run(show)
    champion = champion_of(read_ledger(_model()))
    if champion is None:
        raise StropError("round 1 ended without a champion", where=str(Path.cwd()), fix="See its summary above")
    show(Rule("[bold]The model is served, and people ask[/]", style="magenta"))
    with serve(LOG.absolute()) as server:
        server.wait_for(champion.version)
        outcome = _ask_and_learn(server, show, run, counts)
    _show_story(show)
    return outcome.exit_code


def _ask_and_learn(server: Server, show: Show, run: Callable[[Show], Outcome], counts: tuple[int, int]) -> Outcome:
    articles = news_articles()
    sections = sorted({article["label"] for article in articles})
    unseen = questions(articles, FIRST_SECTIONS, _first_articles())
    with server.client() as (name, post):
        logger.info(f"demo: the population asks by {name}")
        # absolute: a run changes to a folder of its own, while the population goes on
        traffic = Traffic(post, unseen, sections, EXCHANGES.absolute())
        traffic.ask(counts[0] - len(traffic.exchanges))
        show(Rule("[bold]Round 2 learns from what they said, while they go on asking[/]", style="magenta"))
        with traffic.in_background():
            outcome = run(show)
            if outcome.champion is not None:
                server.wait_for(outcome.champion)
        show(Rule(f"[bold]Version {outcome.champion} serves, and people ask again[/]", style="magenta"))
        traffic.ask(counts[1])
    return outcome


def _show_story(show: Show) -> int:
    """Raises StropError: a request was not answered."""
    exchanges = read_exchanges(EXCHANGES)
    draw_loop(exchanges, FIRST_SECTIONS, PICTURE)
    show(loop_page(exchanges, FIRST_SECTIONS, str(PICTURE)))
    if lost := [each for each in exchanges if each.error]:
        what = f"{len(lost)} of {len(exchanges)} requests were not answered, the first: {lost[0].error}"
        raise StropError(what, where=str(EXCHANGES), fix=f"See {LOG}")
    return 0


def _first_articles() -> list[dict[str, str]]:
    return [article for article in news_articles() if article["label"] in FIRST_SECTIONS][:FIRST_ARTICLES]


def _model() -> str:
    return load_config().register_.model_name


def _judged() -> int:
    return sum(entry.kind == "judged" for entry in read_ledger(_model()))
