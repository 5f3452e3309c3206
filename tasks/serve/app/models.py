"""`/v1/models`: what requests may name, and how it computes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tasks.serve.app.call import Call
from tasks.serve.app.interfaces import ModelCard
from tasks.serve.errors import ApiError


async def list_models(call: Call) -> None:
    await call.send_json({"object": "list", "data": [_entry(card) for card in call.gateway.router.models()]})


async def find_model(call: Call) -> None:
    """Raises ApiError for an unknown name."""
    name = str(call.scope["path_params"]["name"])
    for card in call.gateway.router.models():
        if card.id == name:
            await call.send_json(_entry(card))
            return
    raise ApiError(404, "model_not_found", f"There is no model {name[:200]!r}. See /v1/models.", "model")


def _entry(card: ModelCard) -> dict[str, Any]:
    facts = {name: value for name, value in asdict(card.facts).items() if value is not None} if card.facts else {}
    canary = {} if card.canary is None else {"canary": dict(card.canary)}
    strop = {"version": card.version, "is_loaded": card.facts is not None, **facts, **canary}
    return {"id": card.id, "object": "model", "created": card.created, "owned_by": "strop", "strop": strop}
