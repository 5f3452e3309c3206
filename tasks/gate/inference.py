"""The check `inference`: the answers are those of the weights that were trained, not of a server that nobody verified."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.gate.check import Check, GateInput


def check_inference(gate: GateInput) -> Iterator[Check]:
    """Fails if a server that Strop did not start answered for the candidate or its reference: what serves must be what was judged.
    Without such a server there is no result."""
    is_verified = gate.metrics.get("inference", {}).get("is_verified", {})
    roles = [role for role in ("candidate", gate.reference) if is_verified.get(role) is False]
    if roles:
        detail = (
            f"answers of {' and '.join(roles)} are from servers whose weights were not verified (evaluate.engine.urls)"
        )
        yield Check("inference", None, False, float(len(roles)), 0.0, None, len(gate.scores), detail)
