"""Which model answers a unit (a conversation or a user) while a canary runs. Without state, and equal in all gateways.

unit = unit_of(plan.by, user="u1", conversation="", system="", first_turn="Hello")
arm = arm_of(canary.id, unit, plan.share)             # `canary:3f2a91c07b5d` or `champion:3f2a91c07b5d`, for the record
version = canary.version if is_canary(arm) else plan.champion
"""

from __future__ import annotations

import hashlib

from tasks.model_store.canaries import Unit

CANARY, CHAMPION = "canary", "champion"
ID_DIGITS = 12


def arm_of(canary_id: str, unit: str, share: float) -> str:
    """Which model answers the unit, with the beginning of the canary's id.

    The id is the commit of its ledger entry, which nobody knows before: so the draw is independent of all that users do, and each
    canary draws anew.
    """
    digest = hashlib.sha256(f"{canary_id}\n{unit}".encode("utf-8", "surrogatepass")).digest()
    name = CANARY if int.from_bytes(digest[:8], "big") < share * 2**64 else CHAMPION
    return f"{name}:{canary_id[:ID_DIGITS]}"


def is_canary(arm: str) -> bool:
    return arm.partition(":")[0] == CANARY


def is_arm_of(arm: str, canary_id: str) -> bool:
    """Whether the arm was drawn for this canary, and not for an earlier one that a gateway still followed."""
    return arm.partition(":")[2] == canary_id[:ID_DIGITS]


def unit_of(by: Unit, user: str, conversation: str, system: str, first_turn: str) -> str:
    """The unit of a request, as a digest: what a client calls a conversation may be personal.

    Args:
        user: "" if the client names none: then the unit is the conversation.
        conversation: the client's name of it; "": it is known by its system turn and its first user turn, which stay while it
            grows.
    """
    parts = ("user", user) if by == "user" and user else ("conversation", conversation or f"{system}\n\n{first_turn}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
