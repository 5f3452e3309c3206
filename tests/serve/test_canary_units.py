"""Which units a canary answers, and what their ratings are worth: sticky, settled for good, and dominated by nobody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.serve.canary.arms import arm_of, is_arm_of, is_canary, unit_of
from tasks.serve.canary.ratings import Rating, ratings_of
from tasks.serve.canary.units import settled_units

CANARY, EARLIER = "3f2a" * 10, "b07c" * 10
HOUR = 3600.0


def rating(unit: str, value: float, when: float, user: str = "", answer: str = "r0", in_canary: bool = False) -> Rating:
    return Rating(f"{unit} {answer}", unit, user, value, when, in_canary)


def values(ratings: list[Rating], now: float = 1e9, per_user: int = 5) -> dict[str, float]:
    return {each.unit: each.value for each in settled_units(ratings, HOUR, per_user, now)}


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_unit_keeps_its_model_and_the_canary_gets_its_share(share: float) -> None:
    units = [f"会话 {number}" for number in range(4000)]
    arms = [arm_of(CANARY, unit, share) for unit in units]
    assert arms == [arm_of(CANARY, unit, share) for unit in units], "also in another gateway: there is no state"
    assert sum(map(is_canary, arms)) / 4000 == pytest.approx(share, abs=0.03)
    others = [arm_of(EARLIER, unit, share) for unit in units]
    agreement = sum(is_canary(a) == is_canary(b) for a, b in zip(arms, others, strict=True)) / 4000
    assert agreement == pytest.approx(share**2 + (1 - share) ** 2, abs=0.03), "each canary draws anew"
    assert all(is_arm_of(arm, CANARY) and not is_arm_of(arm, EARLIER) for arm in arms)
    assert not is_arm_of("", CANARY)


def test_a_conversation_is_known_by_its_name_or_by_its_beginning() -> None:
    assert unit_of("conversation", "u", "c1", "", "Hello") == unit_of("conversation", "v", "c1", "s", "你好")
    unnamed = unit_of("conversation", "u", "", "系统", "你好")
    assert unnamed == unit_of("conversation", "v", "", "系统", "你好") != unit_of("conversation", "u", "", "", "你好")
    assert (
        unit_of("user", "u", "c1", "", "") == unit_of("user", "u", "c2", "", "") != unit_of("user", "v", "c1", "", "")
    )
    assert unit_of("user", "", "c1", "", "") == unit_of("conversation", "", "c1", "", "")
    assert unit_of("user", "c1", "", "", "") != unit_of("conversation", "", "c1", "", "")


def test_a_unit_counts_the_mean_of_its_users_and_of_their_answers() -> None:
    ratings = [
        rating("a", 1, 0, "ada", "r1"), rating("a", 0, 5, "ada", "r2"), rating("a", 1, 6, "ada", "r2"), rating("a", 0, 7, "ben"),
        rating("b", 0.25, 20),
    ]  # fmt: skip
    assert values(ratings) == {"a": 0.5, "b": 0.25}, "ada: 1, after she has corrected r2; ben: 0"


def test_a_rating_after_the_time_of_its_unit_changes_nothing() -> None:
    early = [rating("a", 1, 0, "ada")]
    assert values(early, now=HOUR - 1) == {}
    assert values([*early, rating("a", 0, HOUR + 1, "ada"), rating("a", 0, HOUR + 1, "ben")]) == {"a": 1}


def test_one_user_counts_in_few_units_only() -> None:
    eager = [rating(f"unit {number}", 0, number, "ada") for number in range(9)]
    shared = [rating("unit 8", 1, 8.5, "ben")]
    assert values(eager + shared, per_user=3) == {"unit 0": 0, "unit 1": 0, "unit 2": 0, "unit 8": 1}
    anonymous = [rating(f"unit {number}", 0, number) for number in range(9)]
    assert len(values(anonymous, per_user=3)) == 9


MANY = st.lists(
    st.builds(
        rating, st.sampled_from("abcdef"), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 9).map(lambda n: n * HOUR / 3),
        st.sampled_from(["", "ada", "本"]), st.sampled_from(["r1", "r2"]),
    ),
    max_size=20,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(MANY, st.integers(0, 12), st.integers(0, 12), st.randoms())
def test_later_looks_see_the_same_values_first(ratings: list[Rating], one: int, two: int, random: Any) -> None:
    """Or the looks would not be looks at one sequence, for which alone the error holds."""
    early, late = sorted((one * HOUR / 3, two * HOUR / 3))
    before = settled_units([each for each in ratings if each.when <= early], HOUR, 2, early)
    shuffled = random.sample(ratings, len(ratings))
    assert settled_units(shuffled, HOUR, 2, late)[: len(before)] == before


def response(id_: str, arm: str, unit: str = "u1", **values: Any) -> dict[str, Any]:
    return {"kind": "response", "id": id_, "arm": arm, "arm_unit": unit, "is_shadow": False, **values}


def feedback(response_: str, value: Any, type_: str = "boolean", **values: Any) -> dict[str, Any]:
    record = {"kind": "feedback", "response": response_, "type": type_, "value": value, "choice": 0, "name": "rating"}
    return {**record, "source": "human", "user": "ada", "when": 5.0, **values}


def test_ratings_are_those_by_people_of_answers_in_this_canary() -> None:
    tried, served = f"canary:{CANARY[:12]}", f"champion:{CANARY[:12]}"
    records = [
        feedback("r1", True), response("r1", tried), response("r2", served, unit="u2"), feedback("r2", 0.25, "float"),
        response("shadow", tried, is_shadow=True), feedback("shadow", True),
        response("pinned", ""), feedback("pinned", True),
        response("before", f"canary:{EARLIER[:12]}"), feedback("before", True),
        response("r3", tried, unit=""), feedback("r3", True),
        feedback("r1", "谢谢", "comment"), feedback("r1", "Better: …", "demonstration"),
        feedback("r1", False, source="llm"), feedback("r1", False, source="code"), feedback("unknown", True),
        feedback("r1", 0.9, "float", name="toxicity"),
    ]  # fmt: skip
    assert ratings_of(records, CANARY) == [
        Rating("r1 0 rating", "u1", "ada", 1.0, 5.0, True),
        Rating("r2 0 rating", "u2", "ada", 0.25, 5.0, False),
    ]
