"""The table of the gate's checks: each compares the paired scores with a bound of the settings. Pure.

A check is one entry of CHECKS, here or added by a plugin (docs/extend.md). Its tier decides what its failure means (policy.py); a
plugin's check can only make a promotion less likely. A family with fewer than `min_rows` rows is reported; it can neither pass nor
block, and is left out of `better`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tasks.gate.better import check_better
from tasks.gate.check import Check as Check
from tasks.gate.check import GateInput as GateInput
from tasks.gate.comparisons import check_no_regression, check_not_worse
from tasks.gate.flags import check_degenerate, check_personal_data
from tasks.gate.floors import check_floor
from tasks.gate.golden import check_golden
from tasks.gate.inference import check_inference
from tasks.gate.limits import check_limits
from tasks.gate.slices import check_slices
from tasks.runtime.plugin_table import PluginTable

CheckFunction = Callable[[GateInput], Iterable[Check]]

CHECKS: PluginTable[CheckFunction] = PluginTable(
    "gate check",
    {
        "floor": check_floor,
        "not_worse": check_not_worse,
        "no_regression": check_no_regression,
        "golden": check_golden,
        "slices": check_slices,
        "degenerate": check_degenerate,
        "personal_data": check_personal_data,
        "inference": check_inference,
        "limits": check_limits,
        "better": check_better,
    },
    stages=("gate",),
)
"""Name → the function that yields its results: one for all families, or one for each."""
OWN_CHECKS = frozenset(CHECKS)
"""The names of Strop's checks; the others are plugins'."""
