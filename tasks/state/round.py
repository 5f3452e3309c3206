"""The round: the champion and the test epoch at the start of the round (data/round.json).

Stages learn about the champion only from this file. Promotion never changes it: so a promotion, a rollback or an alias moved by
hand neither starts a training nor makes a model its own opponent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import paths
from tasks.errors import DataError
from tasks.runtime.files import damage_reason, read_json, write_json
from tasks.state.alpha_spending import spent_after


@dataclass(frozen=True)
class Champion:
    version: int
    """Version in the registry."""
    weights_digest: str
    """Its weights are in .strop/models/<digest>."""
    batches: tuple[str, ...] = ()
    """The raw batches at the time of its training: test rows from these are *established*."""


@dataclass(frozen=True)
class Round:
    champion: Champion | None
    """The model in service, or None before the first promotion: the candidate is then compared with the base."""
    test_epoch: int
    """Number of the test set's generation, from 1; a new one begins when the number of test rows has doubled."""
    looks: int
    """Verdicts already made in this epoch."""
    alpha_spent: float = 0.0
    """The share of the gate's alpha that verdicts have spent and fresh test rows have not restored (alpha_spending.py)."""
    most_rows: int = 0
    """Rows of the largest test set that was judged; 0 before the first verdict."""


def read_round() -> Round:
    """Raises DataError if the file is missing or is not a round."""
    try:
        entry = read_json(paths.ROUND)
        fields = entry["champion"]
        champion = Champion(fields["version"], fields["weights_digest"], tuple(fields["batches"])) if fields else None
        looks = int(entry["looks"])
        spent = float(entry.get("alpha_spent", spent_after(looks)))  # not in rounds of earlier releases
        return Round(champion, int(entry["test_epoch"]), looks, spent, int(entry.get("most_rows", 0)))
    except FileNotFoundError as error:
        raise DataError("not found", where=str(paths.ROUND), fix="Start a round: python -m tasks ingest") from error
    except (ValueError, TypeError, KeyError) as error:
        fix = "Start a new one: strop run --rejudge"
        raise DataError(f"not a round ({damage_reason(error)})", where=str(paths.ROUND), fix=fix) from error


def write_round(round_: Round, path: Path = paths.ROUND) -> None:
    write_json(path, asdict(round_))
