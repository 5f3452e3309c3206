"""Plain text, CoNLL columns, SemEval's relations, and parallel text: formats whose records are lines, or blocks of lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, groupby, takewhile, zip_longest
from pathlib import Path
from typing import Any

from tasks.errors import SourceError
from tasks.ingest.readers import lines as limits
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.jsonl import not_decoded, too_long
from tasks.ingest.readers.lines import Line, read_lines
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source

Parsed = dict[str, Any] | str | None
"""A block's record, its error, or None for no record."""
_NUMBERED = re.compile(r'(\d+)\s+"?(.*?)"?')
_TAG = re.compile("O|[BIMELSU](-.+)?")
DOCUMENT_START = "-DOCSTART-"
"""CoNLL-2003 has this token between documents; it is not a sentence."""


def read_text(content: Content, source: Source) -> Iterator[RawRecord]:
    """Records {"text": ...}: a line each, or a block of lines between blank lines (`text_unit: document`)."""
    return _read_blocks(content, source, _parse_text, by_line=source.text_unit == "line")


def _parse_text(text: str) -> Parsed:
    return {"text": text.rstrip("\r\n")} if text.strip() else None


def read_conll(content: Content, source: Source) -> Iterator[RawRecord]:
    """Records {"tokens": [...], "tags": [...], "comment"?}, a sentence each: the first column and the last, blank lines between.
    Lines above a sentence that begin with `#` and do not end in a tag are its comment."""
    return _read_blocks(content, source, _parse_conll)


def _parse_conll(text: str) -> Parsed:
    texts = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    rows = [line.split("\t") if "\t" in line else line.split() for line in texts]
    comments = [text for text, _ in takewhile(lambda pair: _is_comment(*pair), zip(texts, rows, strict=True))]
    rows = rows[len(comments) :]
    if rows and rows[0][0] == DOCUMENT_START:
        rows = rows[1:]
    bare = next((row for row in rows if len(row) < 2), None)
    if bare is not None:
        return f"wrong_field_count: the token {bare[0][:50]!r} has no tag"
    record: Parsed = {"tokens": [row[0] for row in rows], "tags": [row[-1].strip() for row in rows]} if rows else None
    return {**record, "comment": "\n".join(comments)} if isinstance(record, dict) and comments else record


def _is_comment(text: str, row: list[str]) -> bool:
    """`# sent_id = 3` above a sentence; `#\tO` is a token."""
    return text.startswith("#") and not _TAG.fullmatch(row[-1].strip())


def read_semeval(content: Content, source: Source) -> Iterator[RawRecord]:
    """Records {"id", "text", "label", "comment"?} of SemEval-2010 task 8's blocks: a number and a quoted sentence with <e1> and
    <e2>, a line with the relation, optionally a comment, and a blank line."""
    return _read_blocks(content, source, _parse_semeval)


def _parse_semeval(text: str) -> Parsed:
    parts = [line.strip() for line in text.split("\n") if line.strip()]
    numbered = _NUMBERED.fullmatch(parts[0])
    comment = parts[2].partition(":") if len(parts) == 3 else ("Comment", "", "")
    if numbered is None or not 2 <= len(parts) <= 3 or comment[0].strip().lower() != "comment":
        lacks = "begins with no number and sentence" if numbered is None else f"has {len(parts)} lines"
        return (
            f"wrong_field_count: a block is a numbered sentence, its relation and perhaps `Comment:`; this one {lacks}"
        )
    record = {"id": numbered[1], "text": numbered[2], "label": parts[1]}
    return record | ({"comment": comment[2].strip()} if comment[2].strip() else {})


def _read_blocks(
    content: Content, source: Source, parse: Callable[[str], Parsed], by_line: bool = False
) -> Iterator[RawRecord]:
    """The record of each block of lines; a block that has an error is kept as bytes."""
    encoding, lines = read_lines(content, source.encoding, skips_blank=lambda: True)
    for block in ([line] for line in lines) if by_line else _blocks(lines, encoding):
        text = _decoded(block, encoding)
        parsed = None if isinstance(text, RawRecord) else parse(text)
        if isinstance(text, RawRecord):
            yield text
        elif isinstance(parsed, str):
            yield RawRecord(block[0].number, None, b"".join(line.content for line in block), parsed)
        elif parsed is not None:
            yield RawRecord(block[0].number, parsed)


def read_parallel(first: Content, source: Source) -> Iterator[RawRecord]:
    """Records {"source": ..., "target": ...}: a pair of lines each. A line without a partner is kept with an error."""
    second = first.partner
    assert second is not None, "parallel text is two files"
    first_encoding, lines = read_lines(first, source.encoding)
    second_encoding, others = read_lines(second, source.encoding)
    pairs = zip_longest(_by_number(lines), _by_number(others), fillvalue=iter(()))
    for number, (pieces, other_pieces) in enumerate(pairs, start=1):
        # a line in pieces is represented by the first, so that the lines below keep their partners
        line, other = next(pieces, None), next(other_pieces, None)
        for piece in chain(pieces, other_pieces):
            yield too_long(number, piece.content)
        if line is None or other is None:
            shorter = first if line is None else second
            alone = line or other
            if alone is not None and alone.content.strip():
                error = f"no_partner: {Path(shorter.name).name} ends before line {number:,}"
                yield RawRecord(number, None, alone.content, error)
            continue
        text, translation = _decoded([line], first_encoding), _decoded([other], second_encoding)
        if isinstance(text, RawRecord) or isinstance(translation, RawRecord):
            fault = text if isinstance(text, RawRecord) else translation
            assert isinstance(fault, RawRecord)
            yield RawRecord(number, None, line.content + other.content, fault.error)
        elif text.strip() or translation.strip():
            yield RawRecord(number, {"source": text.strip(), "target": translation.strip()})


def _by_number(lines: Iterator[Line]) -> Iterator[Iterator[Line]]:
    """Each line as its pieces, mostly one."""
    return (pieces for _, pieces in groupby(lines, key=lambda line: line.number))


def partner_of(name: str, pair: tuple[str, ...]) -> str:
    """The name of the second file: `train.en.gz` → `train.de.gz`.

    Raises:
        SourceError: the first word of the pair is not a part of the name.
    """
    folder, slash, last = name.rpartition("/")
    parts = last.split(".")
    if pair[0] not in parts:
        fix = f"Set the path to the first file of each pair, with the part `{pair[0]}` between dots"
        raise SourceError(f"has no part `{pair[0]}` to replace with `{pair[1]}`", where=name, fix=fix)
    index = len(parts) - 1 - parts[::-1].index(pair[0])
    parts[index] = pair[1]
    return f"{folder}{slash}{'.'.join(parts)}"


def _blocks(lines: Iterator[Line], encoding: str) -> Iterator[list[Line]]:
    """Lines between blank lines; a block that is too large is returned in pieces that are not whole."""
    space = b" \t\r\n\v\f" + (b"\0" if len("\n".encode(encoding)) > 1 else b"")  # UTF-16 has zero bytes
    block: list[Line] = []
    size, is_cut = 0, False
    for line in lines:
        if not line.content.strip(space):
            if block:
                yield [_piece(block)] if is_cut else block
            block, size, is_cut = [], 0, False
            continue
        block.append(line)
        size += len(line.content)
        if size > limits.MAX_RECORD_BYTES or len(block) > limits.MAX_RECORD_LINES:
            yield [_piece(block)]
            block, size, is_cut = [], 0, True
    if block:
        yield [_piece(block)] if is_cut else block


def _piece(block: list[Line]) -> Line:
    """A piece of a block."""
    return Line(block[0].number, b"".join(line.content for line in block), False)


def _decoded(block: list[Line], encoding: str) -> str | RawRecord:
    """The lines' text; or the record that is kept if they cannot be decoded or are too long."""
    whole = b"".join(line.content for line in block)
    if not all(line.is_whole for line in block):
        return too_long(block[0].number, whole)
    try:
        return whole.decode(encoding)
    except UnicodeDecodeError as error:
        return RawRecord(block[0].number, None, whole, not_decoded(error))
