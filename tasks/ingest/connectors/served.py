"""Answers of this project's server with feedback: corrections, and answers that were rated."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tasks import paths
from tasks.errors import RegistryError, SourceError
from tasks.feedback.judged import judged_answers
from tasks.feedback.records import Feedback
from tasks.feedback.rows import ServedRows, served_rows
from tasks.feedback.select import Selection
from tasks.feedback.spool import segments
from tasks.feedback.store import read_salt
from tasks.ingest.connectors.connector import Connector, OpenItem
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.secrets import filled_in
from tasks.ingest.settings import Source
from tasks.records.origin import SERVED_ANSWER
from tasks.runtime.files import content_digest
from tasks.runtime.plurals import count_of


class Served(Connector):
    """The spool is the only item; its stamp is the digest of its rows, so that requests without feedback are nothing new."""

    record_key = SERVED_ANSWER

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.uses_mlflow = source.tracking_uri is not None

    def list_items(self) -> Listing:
        damage: list[str] = []
        rows = _rows_of(self.source, damage)
        state = ItemState(stamp=content_digest([rows.records, sorted(rows.withdrawn)]))
        name = f"{self.source.name}: {paths.SPOOL.as_posix()}"
        return Listing({name: state}, notes=[*damage, *_notes(self.source, rows)], withdrawn=rows.withdrawn)

    def open_item(self, name: str, before: ItemState | None) -> AbstractContextManager[OpenItem]:
        records = enumerate(_rows_of(self.source).records, start=1)
        return self.open_records((RawRecord(number, record) for number, record in records), is_whole=False)


def _rows_of(source: Source, damage: list[str] | None = None) -> ServedRows:
    selection = Selection(
        source.family,
        source.rating,
        source.rating_min,
        source.feedback_from,
        source.cap_per_user,
        source.free_prompts,
    )
    return served_rows(judged_answers(paths.SPOOL, damage, _reviews(source)), selection)


def _reviews(source: Source) -> list[Feedback]:
    """What people said in MLflow of answers in the spool."""
    if source.tracking_uri is None or not segments(paths.SPOOL):
        return []
    assert source.experiment is not None
    from tasks.tracking.reviews import reviewed

    uri = filled_in(source.tracking_uri, source.name)
    ratings = [source.rating] if source.rating else []
    try:
        return reviewed(uri, source.experiment, read_salt(paths.SPOOL), ratings)
    except RegistryError as error:
        raise SourceError(error.what, where=f"source `{source.name}`, {error.where}", fix=error.fix) from error


def _notes(source: Source, rows: ServedRows) -> list[str]:
    notes = []
    if rows.over_cap:
        users, answers = count_of(len(rows.over_cap), "user"), count_of(rows.over_cap.total(), "answer")
        notes.append(
            f"{source.name}: feedback of {users} on {answers} does not count (`cap_per_user: {source.cap_per_user}`)"
        )
    for why, count in sorted(rows.omitted.items()):
        notes.append(f"{source.name}: {count_of(count, 'judged answer')} without texts: {why}")
    return notes
