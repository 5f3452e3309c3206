"""Rows of Parquet and Arrow files and of databases, as JSON has them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NoReturn

from tasks.errors import SourceError, one_line
from tasks.ingest.readers import lines as limits
from tasks.ingest.readers.class_labels import Names, features_of, label_names
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source


def read_parquet(content: Content, _: Source | None = None) -> Iterator[RawRecord]:
    """The rows of a Parquet file, in bounded memory.

    Raises:
        SourceError: it is no Parquet file, is cut off, or holds more than its bound (columnar.py).
    """
    import pyarrow as pa

    from tasks.ingest.readers.columnar import parquet_batches

    names: dict[str, Names] | None = None
    if content.archive:
        raise SourceError("is a packed Parquet file", where=content.name, fix="Unpack it: Parquet is packed in itself")
    number = 0
    try:
        for batch in parquet_batches(content):
            if names is None:
                names = label_names(features_of(batch.schema))
            for record in rows_of(batch, number, names):
                number += 1
                yield record
    except (pa.ArrowException, ValueError, LookupError, OSError, RecursionError, MemoryError) as error:
        told = one_line((str(error) or type(error).__name__).splitlines()[0], 200)
        raise SourceError(
            f"cannot be read as Parquet ({told})", where=content.name, fix="Copy it again, whole"
        ) from error


def rows_of(batch: Any, before: int, names: dict[str, Names] | None = None) -> Iterator[RawRecord]:
    """The rows of an arrow batch; one that cannot be told as JSON is kept as an Arrow stream.

    Args:
        before: how many rows came before.
        names: column → how the numbers in it become names (class_labels.py).
    """
    try:
        records = _records_of(batch, names or {})
    except (ValueError, OverflowError, KeyError):  # one text among a thousand rows is not UTF-8, one date is no date
        for place in range(batch.num_rows):
            yield _row_alone(batch.slice(place, 1), before + place + 1, names or {})
        return
    for place, record in enumerate(records, start=1):
        yield RawRecord(before + place, record)


def _records_of(batch: Any, names: dict[str, Names]) -> list[dict[str, Any]]:
    records = [record_json(record) for record in batch.to_pylist(maps_as_pydicts="strict")]
    for column, named in names.items():
        for record in records:
            if column in record:
                record[column] = named(record[column])
    return records


def _row_alone(row: Any, number: int, names: dict[str, Names]) -> RawRecord:
    import pyarrow as pa

    try:
        return RawRecord(number, _records_of(row, names)[0])
    except (ValueError, OverflowError, KeyError) as error:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, row.schema) as writer:
            writer.write_batch(row)
        told = f"{_code_of(error)}; kept as an Arrow stream"
        return RawRecord(number, None, sink.getvalue().to_pybytes(), told)


def _code_of(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not_decoded: not utf-8 ({error.reason})"
    if isinstance(error, NotFinite):
        return f"not_finite: {error}"
    is_twice = "duplicate" in str(error)  # a key of a map, or a field of a struct
    return f"{'duplicate_keys' if is_twice else 'not_readable'}: {error.args[0] if error.args else error}"


class NotFinite(ValueError):
    """A number that JSON has no word for, and that does not say that the cell is empty."""


def row_of(number: int, record: dict[str, Any]) -> RawRecord:
    """A row of a database; one with an infinite number, or too long a one, is kept as text: that number is spelled out there."""
    try:
        row = record_json(record)
        if sum(len(value) for value in row.values() if isinstance(value, str)) > limits.MAX_RECORD_BYTES:
            content = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
            return RawRecord(number, None, content, f"too_long: over {limits.MAX_RECORD_BYTES:,} characters in one row")
        return RawRecord(number, row)
    except NotFinite as error:
        told = json.dumps(record_json(record, str), ensure_ascii=False).encode("utf-8", "surrogatepass")
        return RawRecord(number, None, told, f"not_finite: {error}")


def infinite(number: float | Decimal) -> NoReturn:
    raise NotFinite(f"the number {number}")


def record_json(record: dict[Any, Any], tell_infinite: Callable[[Any], Any] = infinite) -> dict[str, Any]:
    """A row as JSON has it: every column, those that are null too.

    Raises:
        NotFinite: a number is infinite, unless `tell_infinite` says it otherwise.
    """
    return {str(column): jsonable(value, tell_infinite) for column, value in record.items()}


def jsonable(value: Any, tell_infinite: Callable[[Any], Any] = infinite) -> Any:
    """The value as JSON has it: times and decimals as text, NaN as null; what is null in an object is not in it.

    pandas writes NaN where a cell of numbers is empty, Arrow a null for each key that another row's object has. Bytes are
    text where they are UTF-8; else {"bytes": base64}, which is an image's form and no text.

    Raises:
        NotFinite: a number is infinite, unless `tell_infinite` says it otherwise.
    """
    if isinstance(value, dict):
        inner = {str(key): jsonable(each, tell_infinite) for key, each in value.items()}
        if isinstance(given := value.get("bytes"), (bytes, bytearray, memoryview)) and isinstance(inner["bytes"], dict):
            inner["bytes"] = base64.b64encode(given).decode("ascii")
        return {key: each for key, each in inner.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner, tell_infinite) for inner in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"bytes": base64.b64encode(value).decode("ascii")}
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return None if math.isnan(value) else tell_infinite(value)
    return value if isinstance(value, float) else str(value)
