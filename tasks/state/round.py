"""The round: the champion and the test epoch as they were when the round began (data/round.json).

It is the only way by which a stage knows of a champion. Promotion never rewrites it, so that nothing retrains, and
nothing is judged against itself, because a model was promoted, rolled back, or an alias moved by hand.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import paths
from tasks.errors import DataError
from tasks.runtime.files import damage_reason, read_json, write_json


@dataclass(frozen=True)
class Champion:
    version: int
    """Version in the registry."""
    weights_digest: str
    """Names the folder .strop/models/<digest>, where its weights lie."""
    batches: tuple[str, ...] = ()
    """The raw batches that were there when it was made: test rows of these are *established*."""


@dataclass(frozen=True)
class Round:
    champion: Champion | None
    """The model in service, or None before the first promotion: the candidate is then compared with the base."""
    test_epoch: int
    """Counts the generations of the test set, from 1; a new one begins when its rows have doubled."""
    looks: int
    """Verdicts already spent on this epoch's test rows. Each further one must be more certain."""


def read_round(path: Path = paths.ROUND) -> Round:
    """Raises DataError where the file is missing or is not a round."""
    try:
        entry = read_json(path)
        found = entry["champion"]
        champion = Champion(found["version"], found["weights_digest"], tuple(found["batches"])) if found else None
        return Round(champion, int(entry["test_epoch"]), int(entry["looks"]))
    except FileNotFoundError as error:
        raise DataError("not found", where=str(path), fix="Begin the round: python -m tasks ingest") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"not a round ({damage_reason(error)})", where=str(path), fix="Begin it anew: strop run --rejudge"
        ) from error


def write_round(round_: Round, path: Path = paths.ROUND) -> None:
    write_json(path, asdict(round_))
