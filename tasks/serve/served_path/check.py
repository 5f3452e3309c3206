"""The served-path check of one version: a probe of the server's log probabilities, then its test rows.

check = await check_served_path(engine, version, rows, policy, reference)
check.passed, check.reason
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tasks.serve.engine.remote import RemoteEngine
from tasks.serve.engine.remote_version import RemoteVersion
from tasks.serve.served_path.comparison import Policy, compare
from tasks.serve.served_path.probe import Probe, ProbedRow, judge_probe, tolerance_of
from tasks.serve.served_path.record import EngineIdentity, ServedCheck
from tasks.serve.served_path.rows import CheckRow, choose_rows
from tasks.serve.served_path.server_answers import PROBE_TOKENS, ServerProbe, answers_to, probe_prompt

logger = logging.getLogger(__name__)

PROBED_ROWS = 8
MOST_OTHERS = 4
Reference = Callable[[Sequence[tuple[Sequence[int], Sequence[int]]]], list[tuple[list[float], list[float] | None]]]
"""Prompts with their tokens → log probabilities by the version and by its base (reference.py)."""


async def check_served_path(
    engine: RemoteEngine,
    version: RemoteVersion,
    identity: EngineIdentity,
    rows: Sequence[CheckRow],
    policy: Policy,
    reference: Reference,
    tokenize: Callable[[str], Sequence[int]],
) -> ServedCheck:
    """Carries out the check.

    Raises:
        SourceError: the server fails, so that nothing can be concluded.
    """
    tolerance = tolerance_of(identity.precision)
    probe = await _probe(engine, version, choose_rows(rows, PROBED_ROWS), reference, tolerance)
    comparison: dict[str, Any] | None = None
    reason = probe.reason
    if not reason:
        chosen = choose_rows(rows, policy.most_rows)
        logger.info(f"serve: {version.name}: {engine.facts.engine} answers {len(chosen):,} test rows")
        answers = await answers_to(engine, chosen, version.max_new_tokens)
        result = compare(chosen, answers, tokenize, policy)
        comparison, reason = asdict(result), result.reason
    return ServedCheck(
        version.model,
        version.number,
        version.weights,
        version.files,
        identity.engine,
        identity.digest,
        identity.precision,
        identity.settings,
        asdict(policy) | {"tolerance": tolerance},
        datetime.now(UTC).isoformat(timespec="seconds"),
        not reason,
        reason,
        asdict(probe),
        comparison,
    )


async def _probe(
    engine: RemoteEngine, version: RemoteVersion, rows: Sequence[CheckRow], reference: Reference, tolerance: float
) -> Probe:
    prompts = [row.prompt_ids for row in rows]
    served = [await probe_prompt(engine, engine.model, prompt, PROBE_TOKENS) for prompt in prompts]
    base: list[ServerProbe | None] = [None] * len(rows)
    others: list[list[ServerProbe]] = []
    if version.is_adapter:
        base = [await probe_prompt(engine, engine.server.base.name, prompt, 1) for prompt in prompts]
        names = await _other_adapters(engine, version)
        others = [[await probe_prompt(engine, name, prompt, 1) for prompt in prompts] for name in names]
    expected = await asyncio.to_thread(reference, [(each.prompt, each.tokens) for each in served])
    return judge_probe(
        [
            ProbedRow(
                mine.logprobs,
                own,
                bare,
                mine.first,
                None if without is None else without.first,
                tuple(other[place].first for other in others),
            )
            for place, (mine, without, (own, bare)) in enumerate(zip(served, base, expected, strict=True))
        ],
        tolerance,
    )


async def _other_adapters(engine: RemoteEngine, version: RemoteVersion) -> list[str]:
    """Names of the newest adapters in the server that have other weights, by their names."""
    models = [model for model in await engine.server.client.models() if model.is_adapter and model.name != engine.model]
    return [model.name for model in models if not version.has_same_weights(model.name)][-MOST_OTHERS:]
