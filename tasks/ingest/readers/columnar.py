"""Tables of columns (Parquet, Arrow) in bounded memory: the size of a batch as rows is computed before it is converted.

A value that is stored once may occur in a million rows, so that a file of a few hundred bytes may expand to 50 GB. So texts are
read as dictionaries (each value once, and an index for each row), measured, and converted to rows in parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from tasks.errors import SourceError
from tasks.ingest.readers.column_check import require_once
from tasks.ingest.readers.compression import Bound, Content
from tasks.ingest.readers.parquet_pages import VALUE_BYTES, Chunk, PageRange, chunks_of, page_ranges

ROWS_AT_ONCE = 1024
BYTES_AT_ONCE = 32 * 1024 * 1024
MOST_COLUMNS = 4_096
"""The page headers of every column are read."""


def parquet_batches(content: Content) -> Iterator[Any]:
    """The record batches of a Parquet file, in order, each of at most BYTES_AT_ONCE or one row.

    Raises:
        SourceError: it exceeds its bound.
    """
    import pyarrow.parquet as pq

    size = content.path.stat().st_size
    with pq.ParquetFile(content.path) as plain:
        metadata = plain.metadata
        if metadata.num_columns > MOST_COLUMNS:
            what = f"has {metadata.num_columns:,} columns; at most {MOST_COLUMNS:,} are read"
            raise SourceError(what, where=content.name, fix="Write it with fewer columns")
        schema = plain.schema_arrow
        require_once(schema.names, content.name)
    columns = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    bound = Bound(size, metadata.num_rows, content.max_uncompressed_bytes, content.name)
    groups = _checked_pages(content, metadata, columns, bound)
    prefixed = {chunk.column for chunks in groups for chunk in chunks if chunk.has_shared_prefixes}
    texts = [c.path for index, c in enumerate(columns) if c.physical_type == "BYTE_ARRAY" and index not in prefixed]
    with pq.ParquetFile(content.path, read_dictionary=texts) as file:
        for group, chunks in enumerate(groups):
            bound.group = group
            for batch in file.iter_batches(_rows_at_once(chunks, columns, metadata.row_group(group).num_rows), [group]):
                for portion in portions(batch, bound):
                    yield portion.cast(schema)


def _checked_pages(content: Content, metadata: Any, columns: list[Any], bound: Bound) -> list[list[Chunk]]:
    """The column chunks of each row group. Raises SourceError if their pages alone are too large."""
    groups, unpacked = [], 0
    with content.path.open("rb") as file:
        for group, ranges in enumerate(_page_ranges(file, metadata.num_columns)):
            bound.group = group
            groups.append(list(chunks_of(file, ranges, group)))
            for chunk in groups[-1]:
                unpacked += _least_bytes(chunk, columns[chunk.column])
                bound.require_page(chunk.largest_page_bytes)
                bound.require(unpacked)
    return groups


def _page_ranges(file: BinaryIO, columns: int) -> list[list[PageRange]]:
    import pyarrow as pa

    try:
        return page_ranges(file, columns)
    except (ValueError, TypeError, AttributeError) as error:
        raise pa.ArrowInvalid(f"its footer cannot be read: {error}") from error


def _least_bytes(chunk: Chunk, column: Any) -> int:
    """The least memory of a column of a row group."""
    width = max(column.length, 0) if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
    in_lists = VALUE_BYTES if column.max_repetition_level else 0
    return max(chunk.unpacked_bytes, chunk.values * max(width, in_lists))


def _rows_at_once(chunks: list[Chunk], columns: list[Any], rows: int) -> int:
    """Rows of a batch: few if values are long, so that it can be measured in bounded memory."""
    rows_at_once = min(ROWS_AT_ONCE, BYTES_AT_ONCE * rows // max(sum(chunk.unpacked_bytes for chunk in chunks), 1))
    for chunk in chunks:
        if chunk.has_shared_prefixes:
            rows_at_once = min(rows_at_once, BYTES_AT_ONCE // max(chunk.largest_page_bytes, 1))
        if columns[chunk.column].physical_type == "FIXED_LEN_BYTE_ARRAY":
            rows_at_once = min(rows_at_once, BYTES_AT_ONCE // max(columns[chunk.column].length, 1))
    return max(1, rows_at_once)


def portions(batch: Any, bound: Bound) -> Iterator[Any]:
    """The batch in parts of at most BYTES_AT_ONCE, or of one row; each is counted first."""
    size = sum(bytes_of(column) for column in batch.columns)
    if size <= BYTES_AT_ONCE or batch.num_rows <= 1:
        bound.add(size)
        yield batch
        return
    bound.require(size)
    half = batch.num_rows // 2
    yield from portions(batch.slice(0, half), bound)
    yield from portions(batch.slice(half), bound)


def bytes_of(array: Any) -> int:
    """Size of an Arrow array as values, each counted as often as it occurs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return bytes_of(array.storage)
    if pa.types.is_dictionary(kind):
        lengths = _lengths(array.dictionary)
        indices = array.indices.drop_null().to_numpy(zero_copy_only=False)
        return int(lengths[indices].sum()) + 8 * len(array) if len(lengths) else 8 * len(array)
    if pa.types.is_run_end_encoded(kind):
        runs = np.diff(np.concatenate([[0], np.minimum(array.run_ends.to_numpy() - array.offset, len(array)).clip(0)]))
        return int((_lengths(array.values) * runs).sum()) + 8 * len(array)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        longest = bytes_of(array.values) // max(len(array.values), 1) + 1
        return int(pc.sum(array.sizes).as_py() or 0) * longest + 8 * len(array)
    is_list = (pa.types.is_map, pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if any(is_one(kind) for is_one in is_list):
        return sum(bytes_of(inner) for inner in _inner(array)) + 8 * len(array)
    if pa.types.is_struct(kind):
        return sum(bytes_of(inner) for inner in array.flatten()) + len(array)
    return int(_lengths(array).sum())


def _inner(array: Any) -> list[Any]:
    """The arrays of the values in lists or maps."""
    import pyarrow as pa

    if not pa.types.is_map(array.type):
        return [array.flatten()]
    first, last = array.offsets[0].as_py(), array.offsets[len(array)].as_py()
    return [array.keys.slice(first, last - first), array.items.slice(first, last - first)]


def _lengths(array: Any) -> Any:
    """Bytes of each value: exact for texts and types of fixed width."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        views = np.frombuffer(array.buffers()[1], np.int32)[4 * array.offset : 4 * (array.offset + len(array)) : 4]
        return views.astype(np.int64)
    is_text = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
    if any(is_one(kind) for is_one in is_text):
        return pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64)
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or isinstance(array, pa.ExtensionArray):
        return np.full(len(array), bytes_of(array) // max(len(array), 1) + 1, np.int64)
    return np.full(len(array), max(kind.bit_width // 8, 1), np.int64)
