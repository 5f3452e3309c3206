"""Precision and recall per kind of personal data and secrets, on a synthetic, labelled sample.

Run: .venv/bin/python benchmarks/pii.py [SEED]

Half of the 400 texts contain one value each (English, Chinese, code, numbers), half contain only lookalikes. A detection is
correct if kind, start and end equal the label's; every other detection, in any text, is a false positive of its kind.
"""

from __future__ import annotations

import sys
from collections import Counter

from measuring import REPOSITORY
from pii_sample import KINDS, make_sample

sys.path.insert(0, str(REPOSITORY))

COUNT = 400
TARGET = 0.97


def measure(seed: int) -> dict[str, tuple[float, float, list[str]]]:
    """Kind → precision, recall, and the texts with a false negative or false positive."""
    from tasks.pii.mask import find

    correct, detected, labelled = Counter[str](), Counter[str](), Counter[str]()
    wrong: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for sample in make_sample(COUNT, seed):
        label = {(sample.kind, sample.start, sample.end)} if sample.start >= 0 else set()
        detections = {(entity.kind, entity.start, entity.end) for entity in find(sample.text)}
        labelled.update(kind for kind, _, _ in label)
        detected.update(kind for kind, _, _ in detections)
        correct.update(kind for kind, _, _ in label & detections)
        for kind in {kind for kind, _, _ in label ^ detections}:
            wrong[kind].append(sample.text)
    return {
        kind: (correct[kind] / detected[kind] if detected[kind] else 0.0, correct[kind] / labelled[kind], wrong[kind])
        for kind in KINDS
    }


def main(seed: int) -> int:
    """Prints precision and recall of each kind; returns 1 if any is below the target."""
    print(f"{COUNT} texts, seed {seed}; target {TARGET} each")
    measured = measure(seed)
    for kind, (precision, recall, wrong) in measured.items():
        print(f"  {kind:<12} precision {precision:.3f}   recall {recall:.3f}")
        for text in wrong:
            print(f"    {text!r}")
    return int(any(min(precision, recall) < TARGET for precision, recall, _ in measured.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
