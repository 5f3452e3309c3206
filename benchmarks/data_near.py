"""Near-duplicates of 100,000 rows: Strop against datasketch's MinHashLSH at the same threshold. A part of data.py."""

from __future__ import annotations

import time

from data_rows import Writer

NEAR_ROWS = 100_000


def near() -> None:
    """Detects planted near-duplicates: Strop by bands and exact comparison, datasketch by its index and estimate."""
    from tasks.curate.dedup.minhash import SHINGLE_TOKENS
    from tasks.records.segmentation import segment_with_symbols

    writer = Writer(3)
    texts = [
        f"{row['instruction']} {row['input']}" for row in writer.rows(NEAR_ROWS - 5_000) if "indeed" not in row["input"]
    ]
    texts = list(dict.fromkeys(texts))
    planted = [(index, len(texts) + n) for n, index in enumerate(range(0, 5_000 * 10, 10))]
    texts += [_changed(texts[index]) for index, _ in planted]

    start = time.perf_counter()
    pairs = _strop_pairs(texts)
    ours = time.perf_counter() - start
    print(f"near: {len(texts):,} rows, {len(planted):,} planted")
    expected = {pair for pair, similarity in _exact_of(planted, texts).items() if similarity >= 0.8}
    _print_result("strop", ours, pairs, expected, texts)

    from datasketch import MinHash, MinHashLSH

    start = time.perf_counter()
    index = MinHashLSH(threshold=0.8, num_perm=112)
    their_pairs = set()
    for number, text in enumerate(texts):
        tokens = segment_with_symbols(text)
        signature = MinHash(num_perm=112)
        signature.update_batch(
            [" ".join(tokens[i : i + SHINGLE_TOKENS]).encode() for i in range(max(len(tokens) - SHINGLE_TOKENS + 1, 1))]
        )
        their_pairs.update((other, number) for other in index.query(signature))
        index.insert(number, signature)
    seconds = time.perf_counter() - start
    _print_result("datasketch", seconds, their_pairs, expected, texts)
    print(f"  ratio {seconds / ours:.1f} (target 10), one process each")


def _print_result(
    name: str, seconds: float, pairs: set[tuple[int, int]], expected: set[tuple[int, int]], texts: list[str]
) -> None:
    similarities = list(_exact_of(sorted(pairs)[:20_000], texts).values())
    precision = sum(similarity >= 0.8 for similarity in similarities) / max(len(similarities), 1)
    recall = len(expected & pairs) / len(expected)
    print(f"  {name:<11}{seconds:8.1f} s   recall {recall:.3f}   precision {precision:.3f}")


def _changed(text: str) -> str:
    return text + " indeed" if text.isascii() else text + "啊"


def _strop_pairs(texts: list[str]) -> set[tuple[int, int]]:
    import numpy as np
    import pyarrow as pa

    from tasks.curate.dedup.known import RowTable
    from tasks.curate.dedup.minhash import bands_of, rows_in_band, shingles_of
    from tasks.curate.dedup.near import Shingles, candidate_pairs, jaccard
    from tasks.curate.dedup.sketch_file import FACT_SCHEMA, Signatures
    from tasks.curate.dedup.tokens import tokenise

    portions = []
    for start in range(0, len(texts), 10_000):
        tokens = tokenise(texts[start : start + 10_000], with_symbols=True)
        portions.append(bands_of(*shingles_of(tokens), rows_in_band(0.8)))
    bands = np.concatenate(portions)
    numbers = np.arange(len(texts))
    facts = {f.name: numbers if pa.types.is_integer(f.type) else pa.nulls(len(texts), f.type) for f in FACT_SCHEMA}
    table = RowTable()
    table.append(Signatures(pa.table(facts), bands, np.empty(0, np.uint32)), "a", 0, False)
    pairs = candidate_pairs(table, bands)
    rows = np.unique(pairs)
    proved = pairs[jaccard(*Shingles(rows, [texts[row] for row in rows.tolist()]).compare(pairs)) >= 0.8]
    return {(first, second) for first, second in proved.tolist()}


def _exact_of(pairs: list[tuple[int, int]], texts: list[str]) -> dict[tuple[int, int], float]:
    """The exact similarity of pairs, computed on sets of strings, without Strop's hashes."""
    from tasks.curate.dedup.minhash import SHINGLE_TOKENS
    from tasks.records.segmentation import segment_with_symbols

    def shingles(text: str) -> set[tuple[str, ...]]:
        tokens = segment_with_symbols(text)
        return {tuple(tokens[i : i + SHINGLE_TOKENS]) for i in range(len(tokens) - SHINGLE_TOKENS + 1)}

    similarities = {}
    for pair in pairs:
        first, second = shingles(texts[pair[0]]), shingles(texts[pair[1]])
        similarities[pair] = len(first & second) / len(first | second)
    return similarities
