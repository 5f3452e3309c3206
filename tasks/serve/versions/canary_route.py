"""The canary of the ledger in this gateway: which requests for the champion it answers, and whether it can.

It answers the units that are drawn for it (tasks/serve/canary/arms.py), while it is loaded beside the champion that it is compared
with. Where it cannot, the champion answers, and the arm stays: else other users would be compared.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tasks.model_store.canaries import Canary
from tasks.serve.app.interfaces import Unit
from tasks.serve.canary.arms import arm_of, is_canary, unit_of
from tasks.serve.versions.beside import Beside
from tasks.serve.versions.loaded import Loaded, identity_of
from tasks.serve.versions.names import version_name

logger = logging.getLogger(__name__)


class CanaryRoute:
    def __init__(self, model: str, beside: Beside) -> None:
        self._model, self._beside = model, beside
        self.canary: Canary | None = None
        """That runs now by the ledger."""
        self._logged: str | None = None

    def choose(self, unit: Unit, champion: Loaded) -> tuple[str, str, Loaded | None]:
        """The arm and the digest of a request's unit, and the canary if it answers. Without a canary both are "": also while
        another version is in service than the one that it is compared with, as after a promotion of another."""
        canary = self.canary
        if canary is None or canary.plan.champion != champion.entry.version:
            return "", "", None
        digest = unit_of(canary.plan.by, unit.user, unit.conversation, unit.system, unit.first_turn)
        arm = arm_of(canary.id, digest, canary.plan.share)
        return arm, digest, self._usable(canary) if is_canary(arm) else None

    def problem(self, champion: Loaded) -> str | None:
        """Why the champion answers in the place of the canary; None: it does not."""
        canary = self.canary
        if canary is None or canary.plan.champion != champion.entry.version:
            return None
        name, loaded = version_name(self._model, canary.version), self._loaded(canary)
        if loaded is not None and loaded.engine.is_alive:
            return None
        state = "is not loaded" if loaded is None else "has lost its engine, which is restarted"
        return f"the canary {name} {state}: {champion.name} answers in its place"

    def facts(self, champion: Loaded | None) -> Mapping[str, Any] | None:
        """For `/v1/models`."""
        canary = self.canary
        if canary is None or champion is None or canary.plan.champion != champion.entry.version:
            return None
        plan = canary.plan
        return {
            "version": canary.version,
            "share": plan.share,
            "by": plan.by,
            "is_loaded": self._loaded(canary) is not None,
        }

    def note_problem(self, champion: Loaded) -> None:
        """Logs a change of the problem."""
        problem = self.problem(champion)
        if problem is not None and problem != self._logged:
            logger.warning(f"serve: {problem}")
        self._logged = problem

    def _usable(self, canary: Canary) -> Loaded | None:
        loaded = self._loaded(canary)
        return loaded if loaded is not None and loaded.engine.is_alive else None

    def _loaded(self, canary: Canary) -> Loaded | None:
        return self._beside.find(identity_of(canary.entry))
