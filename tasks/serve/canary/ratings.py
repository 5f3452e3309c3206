"""The ratings of a canary among the records of the gateways (tasks/feedback): as JSON, in any order.

ratings = ratings_of(records, canary.id)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.serve.canary.arms import is_arm_of, is_canary

RATING = "rating"
"""The name of the feedback that counts; the default of feedback without a name."""


@dataclass(frozen=True)
class Rating:
    """A person's rating of one answer."""

    answer: str
    """Which answer of which response was rated, and by what name: a later rating of the same is in its place."""
    unit: str
    user: str
    """Who rated, as a digest; "" if that is unknown: such ratings have no cap."""
    value: float
    """Between 0 and 1; of a boolean 0 or 1."""
    when: float
    """In seconds since 1970."""
    in_canary: bool
    """Whether the canary was drawn for the unit. If the champion answered in its place, as the canary had failed, this counts as an
    answer of the canary: else the two would be rated by other users."""


def ratings_of(records: Iterable[Mapping[str, Any]], canary_id: str) -> list[Rating]:
    """The ratings by people (boolean, float; named RATING) of answers to units that were drawn for this canary. Answers of a shadow
    and to requests for a version by its number belong to no arm."""
    responses: dict[str, tuple[str, bool]] = {}
    feedback = []
    for record in records:
        if record["kind"] == "response":
            if is_arm_of(record.get("arm", ""), canary_id) and record.get("arm_unit") and not record.get("is_shadow"):
                responses[record["id"]] = record["arm_unit"], is_canary(record["arm"])
        elif record["kind"] == "feedback" and _is_rating(record):
            feedback.append(record)
    return [
        Rating(
            answer=f"{each['response']} {each['choice']} {each['name']}",
            unit=responses[each["response"]][0],
            user=each["user"],
            value=float(each["value"]),
            when=each["when"],
            in_canary=responses[each["response"]][1],
        )
        for each in feedback
        if each["response"] in responses
    ]


def _is_rating(record: Mapping[str, Any]) -> bool:
    """Of another name it is not known whether more is better: `toxicity`, `effort`."""
    is_number = record["type"] in ("boolean", "float")
    return is_number and record["name"] == RATING and record["source"] == "human"
