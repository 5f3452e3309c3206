"""How verdicts on the same test rows share `alpha`, and how fresh test rows buy it back. Pure (docs/decisions/0001).

All numbers are shares of alpha. Without fresh rows, the k-th verdict spends 1 / (k (k + 1)); these sum to less than 1. Every
doubling of the test set restores 1, a smaller growth its base-2 logarithm.
"""

from __future__ import annotations

import math


def next_share(spent: float) -> float:
    """The share that the next verdict spends: r^2 / (1 + r), where r = 1 - spent. After k verdicts, r is 1 / (k + 1)."""
    left = 1 - spent
    return left * left / (1 + left)


def spent_after(looks: int) -> float:
    """What `looks` verdicts have spent on the same rows."""
    return 1 - 1 / (looks + 1)


def restored(spent: float, rows: int, most_rows: int) -> float:
    """What is still spent if the test set has `rows` rows.

    Args:
        most_rows: the largest test set of an earlier verdict (0: none): rows that were removed and came back restore nothing.
    """
    return max(0.0, spent - math.log2(rows / most_rows)) if rows > most_rows > 0 else spent
