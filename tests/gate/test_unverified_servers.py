"""Answers of a server whose weights nobody verified make no model pass, unless the policy accepts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.gate.pairing import PairedScores
from tasks.gate.policy import decide
from tasks.gate.settings import GateSettings
from tasks.state.round import Champion, Round

SCORES = PairedScores(np.full(60, "qa"), np.full(60, 0.2), np.full(60, 0.9), np.full(60, "b1"))
ROUND = Round(Champion(1, "c" * 64), test_epoch=1, looks=0)


def outcome(is_verified: dict[str, bool], round_: Round = ROUND, **settings: Any) -> tuple[str, list[str]]:
    policy = GateSettings(bootstrap_samples=500, **settings)
    verdict = decide(SCORES, policy, round_, {"inference": {"name": "server", "is_verified": is_verified}})
    return verdict.outcome, [check.detail for check in verdict.checks if check.name == "inference"]


def test_a_server_that_was_not_verified_makes_a_better_model_inconclusive() -> None:
    assert outcome({"base": False, "champion": False, "candidate": False}) == (
        "inconclusive",
        ["answers of candidate and champion are from servers whose weights were not verified (evaluate.engine.urls)"],
    )
    assert outcome({"candidate": False}, Round(None, 1, 0))[0] == "inconclusive"


@pytest.mark.parametrize("is_verified", [{}, {"candidate": True, "champion": True}, {"base": False, "candidate": True}])
def test_without_such_a_server_of_the_compared_models_there_is_no_check(is_verified: dict[str, bool]) -> None:
    assert outcome(is_verified) == ("passed", [])


def test_the_policy_may_accept_servers_that_nobody_verified_or_refuse_them() -> None:
    assert outcome({"candidate": False}, tiers={"inference": "advisory"})[0] == "passed"
    assert outcome({"candidate": False}, tiers={"inference": "critical"})[0] == "refused"
