"""Near-duplicates of 100,000 rows: ours against datasketch's MinHashLSH at the same threshold. For data.py."""

from __future__ import annotations

import time

from data_rows import Writer

NEAR_ROWS = 100_000


def near() -> None:
    """Finds planted near-duplicates: our bands and proof, and datasketch's index with its estimate."""
    from tasks.curate.dedup.minhash import SHINGLE_TOKENS
    from tasks.records.segmentation import segment_with_symbols

    writer = Writer(3)
    texts = [
        f"{row['instruction']} {row['input']}" for row in writer.rows(NEAR_ROWS - 5_000) if "indeed" not in row["input"]
    ]
    texts = list(dict.fromkeys(texts))
    planted = [(place, len(texts) + n) for n, place in enumerate(range(0, 5_000 * 10, 10))]
    texts += [_changed(texts[place]) for place, _ in planted]

    start = time.perf_counter()
    found = _ours(texts)
    ours = time.perf_counter() - start
    print(f"near: {len(texts):,} rows, {len(planted):,} planted")
    wanted = {pair for pair, similarity in _exact_of(planted, texts).items() if similarity >= 0.8}
    _tell_found("strop", ours, found, wanted, texts)

    from datasketch import MinHash, MinHashLSH

    start = time.perf_counter()
    index = MinHashLSH(threshold=0.8, num_perm=112)
    theirs = set()
    for number, text in enumerate(texts):
        tokens = segment_with_symbols(text)
        signature = MinHash(num_perm=112)
        signature.update_batch(
            [" ".join(tokens[i : i + SHINGLE_TOKENS]).encode() for i in range(max(len(tokens) - SHINGLE_TOKENS + 1, 1))]
        )
        theirs.update((other, number) for other in index.query(signature))
        index.insert(number, signature)
    seconds = time.perf_counter() - start
    _tell_found("datasketch", seconds, theirs, wanted, texts)
    print(f"  ratio {seconds / ours:.1f} (must reach 10), one process each")


def _tell_found(
    name: str, seconds: float, found: set[tuple[int, int]], wanted: set[tuple[int, int]], texts: list[str]
) -> None:
    similar = list(_exact_of(sorted(found)[:20_000], texts).values())
    precision = sum(each >= 0.8 for each in similar) / max(len(similar), 1)
    print(f"  {name:<11}{seconds:8.1f} s   recall {len(wanted & found) / len(wanted):.3f}   precision {precision:.3f}")


def _changed(text: str) -> str:
    return text + " indeed" if text.isascii() else text + "啊"


def _ours(texts: list[str]) -> set[tuple[int, int]]:
    import numpy as np
    import pyarrow as pa

    from tasks.curate.dedup.known import RowTable
    from tasks.curate.dedup.minhash import bands_of, rows_in_band, shingles_of
    from tasks.curate.dedup.near import Shingles, candidate_pairs
    from tasks.curate.dedup.sketch_file import FACT_SCHEMA, Signatures
    from tasks.curate.dedup.tokens import tokenise

    found = []
    for start in range(0, len(texts), 10_000):
        tokens = tokenise(texts[start : start + 10_000], with_symbols=True)
        found.append(bands_of(*shingles_of(tokens), rows_in_band(0.8)))
    bands = np.concatenate(found)
    numbers = np.arange(len(texts))
    facts = {f.name: numbers if pa.types.is_integer(f.type) else pa.nulls(len(texts), f.type) for f in FACT_SCHEMA}
    table = RowTable()
    table.append(Signatures(pa.table(facts), bands, np.empty(0, np.uint32)), "a", 0, False)
    pairs = candidate_pairs(table, 0, bands)
    rows = np.unique(pairs)
    proved = pairs[Shingles(rows, [texts[row] for row in rows.tolist()]).compare(pairs)[0] >= 0.8]
    return {(first, second) for first, second in proved.tolist()}


def _exact_of(pairs: list[tuple[int, int]], texts: list[str]) -> dict[tuple[int, int], float]:
    """The true similarity of pairs, over sets of strings: none of our hashes."""
    from tasks.curate.dedup.minhash import SHINGLE_TOKENS
    from tasks.records.segmentation import segment_with_symbols

    def shingles(text: str) -> set[tuple[str, ...]]:
        tokens = segment_with_symbols(text)
        return {tuple(tokens[i : i + SHINGLE_TOKENS]) for i in range(len(tokens) - SHINGLE_TOKENS + 1)}

    found = {}
    for pair in pairs:
        first, second = shingles(texts[pair[0]]), shingles(texts[pair[1]])
        found[pair] = len(first & second) / len(first | second)
    return found
