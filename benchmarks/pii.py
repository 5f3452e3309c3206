"""Precision and recall of personal data and secrets, a kind, on a made and labelled sample.

Run: .venv/bin/python benchmarks/pii.py [SEED]

Half of the 400 texts hold one value each (English, Chinese, code, numbers), half only look as if they did. A find is right where
kind, start and end are those of the label; every other find, in whatever text, is a false alarm of its kind.
"""

from __future__ import annotations

import sys
from collections import Counter

from measuring import REPOSITORY
from pii_sample import KINDS, make_sample

sys.path.insert(0, str(REPOSITORY))

COUNT = 400
BOUND = 0.97


def measure(seed: int) -> dict[str, tuple[float, float, list[str]]]:
    """Kind → precision, recall, and the texts in which it was missed or wrongly seen."""
    from tasks.curate.pii.mask import find

    right, seen, held = Counter[str](), Counter[str](), Counter[str]()
    wrong: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for sample in make_sample(COUNT, seed):
        label = {(sample.kind, sample.start, sample.end)} if sample.start >= 0 else set()
        found = {(each.kind, each.start, each.end) for each in find(sample.text)}
        held.update(kind for kind, _, _ in label)
        seen.update(kind for kind, _, _ in found)
        right.update(kind for kind, _, _ in label & found)
        for kind in {kind for kind, _, _ in label ^ found}:
            wrong[kind].append(sample.text)
    return {
        kind: (right[kind] / seen[kind] if seen[kind] else 0.0, right[kind] / held[kind], wrong[kind]) for kind in KINDS
    }


def main(seed: int) -> int:
    """Prints both shares of each kind; 1 where one of them is below the bound."""
    print(f"{COUNT} texts, seed {seed}; must reach {BOUND} each")
    measured = measure(seed)
    for kind, (precision, recall, wrong) in measured.items():
        print(f"  {kind:<12} precision {precision:.3f}   recall {recall:.3f}")
        for text in wrong:
            print(f"    {text!r}")
    return int(any(min(precision, recall) < BOUND for precision, recall, _ in measured.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
