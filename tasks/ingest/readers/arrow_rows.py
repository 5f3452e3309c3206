"""Rows of Parquet and Arrow files and of databases, as JSON values."""

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
        SourceError: it is not a Parquet file, is truncated, or exceeds its bound (columnar.py).
    """
    import pyarrow as pa

    from tasks.ingest.readers.columnar import parquet_batches

    names: dict[str, Names] | None = None
    if content.archive:
        fix = "Decompress it: Parquet has its own compression"
        raise SourceError("is a compressed Parquet file", where=content.name, fix=fix)
    number = 0
    try:
        for batch in parquet_batches(content):
            if names is None:
                names = label_names(features_of(batch.schema))
            for record in rows_of(batch, number, names):
                number += 1
                yield record
    except (pa.ArrowException, ValueError, LookupError, OSError, RecursionError, MemoryError) as error:
        reason = one_line((str(error) or type(error).__name__).splitlines()[0], 200)
        what = f"cannot be read as Parquet ({reason})"
        raise SourceError(what, where=content.name, fix="Copy it again, whole") from error


def rows_of(batch: Any, before: int, names: dict[str, Names] | None = None) -> Iterator[RawRecord]:
    """The rows of an Arrow batch; a row that JSON cannot represent is kept as an Arrow stream.

    Args:
        before: number of rows before the batch.
        names: column → conversion of label numbers to names (class_labels.py).
    """
    try:
        records = _records_of(batch, names or {})
    except (ValueError, OverflowError, KeyError):  # a text in one of the rows is not UTF-8, or a date is invalid
        for index in range(batch.num_rows):
            yield _single_row(batch.slice(index, 1), before + index + 1, names or {})
        return
    for number, record in enumerate(records, start=before + 1):
        yield RawRecord(number, record)


def _records_of(batch: Any, names: dict[str, Names]) -> list[dict[str, Any]]:
    records = [record_json(record) for record in batch.to_pylist(maps_as_pydicts="strict")]
    for column, convert in names.items():
        for record in records:
            if column in record:
                record[column] = convert(record[column])
    return records


def _single_row(row: Any, number: int, names: dict[str, Names]) -> RawRecord:
    import pyarrow as pa

    try:
        return RawRecord(number, _records_of(row, names)[0])
    except (ValueError, OverflowError, KeyError) as error:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, row.schema) as writer:
            writer.write_batch(row)
        return RawRecord(number, None, sink.getvalue().to_pybytes(), f"{_code_of(error)}; kept as an Arrow stream")


def _code_of(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not_decoded: not utf-8 ({error.reason})"
    if isinstance(error, NotFinite):
        return f"not_finite: {error}"
    has_duplicates = "duplicate" in str(error)  # a key of a map, or a field of a struct
    return f"{'duplicate_keys' if has_duplicates else 'not_readable'}: {error.args[0] if error.args else error}"


class NotFinite(ValueError):
    """An infinite number, which JSON cannot represent."""


def row_of(number: int, record: dict[str, Any]) -> RawRecord:
    """A row of a database; one that is too long or has an infinite number is kept as text, with the number in words."""
    try:
        row = record_json(record)
        if sum(len(value) for value in row.values() if isinstance(value, str)) > limits.MAX_RECORD_BYTES:
            content = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
            return RawRecord(number, None, content, f"too_long: over {limits.MAX_RECORD_BYTES:,} characters in one row")
        return RawRecord(number, row)
    except NotFinite as error:
        content = json.dumps(record_json(record, str), ensure_ascii=False).encode("utf-8", "surrogatepass")
        return RawRecord(number, None, content, f"not_finite: {error}")


def infinite(number: float | Decimal) -> NoReturn:
    raise NotFinite(f"the number {number}")


def record_json(record: dict[Any, Any], on_infinite: Callable[[Any], Any] = infinite) -> dict[str, Any]:
    """A row as a JSON value, with all columns, also null ones.

    Raises:
        NotFinite: a number is infinite, unless `on_infinite` converts it.
    """
    return {str(column): jsonable(value, on_infinite) for column, value in record.items()}


def jsonable(value: Any, on_infinite: Callable[[Any], Any] = infinite) -> Any:
    """The value as a JSON value: times and decimals as text, NaN as null; objects without their null values.

    pandas writes NaN for an empty cell of numbers, Arrow a null for each key that another row's object has. Bytes are text if
    they are UTF-8; else {"bytes": base64}, the form of an image.

    Raises:
        NotFinite: a number is infinite, unless `on_infinite` converts it.
    """
    if isinstance(value, dict):
        converted = {str(key): jsonable(inner, on_infinite) for key, inner in value.items()}
        content = value.get("bytes")
        if isinstance(content, (bytes, bytearray, memoryview)) and isinstance(converted["bytes"], dict):
            converted["bytes"] = base64.b64encode(content).decode("ascii")
        return {key: inner for key, inner in converted.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner, on_infinite) for inner in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"bytes": base64.b64encode(value).decode("ascii")}
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return None if math.isnan(value) else on_infinite(value)
    return value if isinstance(value, float) else str(value)
