"""Feedback by response id: stored once, only by who may, and never with personal data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.toyserving import APP, SPOOL, records, response, response_id, store

from tasks.feedback import conventions
from tasks.feedback.check import FeedbackRefused, check_feedback
from tasks.feedback.erased import add_erased
from tasks.feedback.records import Answer, Feedback, ServedResponse, new_response_id
from tasks.feedback.settings import RecordSettings
from tasks.feedback.spool import segments
from tasks.feedback.store import Giver
from tasks.feedback.traces import trace_of
from tasks.pii.settings import PiiSettings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rating(number: int = 1, value: Any = True, **more: Any) -> dict[str, Any]:
    return {"response_id": response_id(number), "value": value, **more}


def stored_bytes() -> bytes:
    return b"".join(path.read_bytes() for path in segments(SPOOL))


def test_records_become_json_and_back() -> None:
    served = response(prompt={"messages": [{"role": "user", "content": "你好"}]}, arm="canary", is_shadow=True)
    assert ServedResponse.from_json(json.loads(json.dumps(served.as_json())) | {"of_a_later_release": 1}) == served
    feedback = Feedback("fb_1", "resp_1", 1.5, "float", "helpful", 0.5)
    assert Feedback.from_json(json.loads(json.dumps(feedback.as_json()))) == feedback
    assert new_response_id() != new_response_id()


def test_the_same_feedback_is_stored_once_and_other_feedback_replaces_it() -> None:
    store_ = store()
    store_.add_response(response())
    first = store_.add_feedback(rating(), APP)
    assert first.is_new
    again = store_.add_feedback(rating(), APP)
    assert (again.id, again.is_new) == (first.id, False)
    changed = store_.add_feedback(rating(value=0.25), APP)
    assert (changed.id, changed.is_new) == (first.id, True)
    others = [
        rating(name="polite"),
        rating(user="ann"),
        rating(client_id="2"),
        rating(source="code"),
        rating(value="它叫里昂。", type="demonstration"),
    ]
    ids = {store_.add_feedback(document, APP).id for document in others}
    assert len(ids | {first.id}) == 6
    assert [record["value"] for record in records("feedback")] == [True, 0.25, True, True, True, True, "它叫里昂。"]


def test_an_idempotency_key_stores_once_and_refuses_another_body() -> None:
    store_ = store()
    store_.add_response(response())
    first = store_.add_feedback(rating(), APP, "k1")
    store_.add_feedback(rating(value=False), APP, "k2")
    assert store_.add_feedback(rating(), APP, "k1").id == first.id  # a late repetition changes nothing back
    assert [record["value"] for record in records("feedback")] == [True, False]
    with pytest.raises(FeedbackRefused) as refusal:
        store_.add_feedback(rating(value=0.5), APP, "k1")
    assert (refusal.value.status, refusal.value.code) == (422, "idempotency_key_reused")
    assert b"k1" not in stored_bytes()


def test_unknown_and_foreign_responses_look_the_same() -> None:
    store_ = store()
    store_.add_response(response())
    refusals = []
    documents = [(rating(2), APP), (rating(1), Giver("other")), (rating() | {"response_id": "resp_x"}, APP)]
    for document, giver in documents:
        with pytest.raises(FeedbackRefused) as refusal:
            store_.add_feedback(document, giver)
        refusals.append((refusal.value.status, refusal.value.code, refusal.value.message))
    assert set(refusals) == {(404, "response_not_found", refusals[0][2])}
    assert store_.add_feedback(rating(), Giver("other", is_admin=True)).is_new


def test_feedback_is_late_until_the_records_of_its_response_are_gone() -> None:
    one, other = store(), store()
    one.add_response(response())
    assert other.add_feedback(rating(), APP).is_new  # another gateway of the project knows it
    assert not one.add_feedback(rating(), APP).is_new
    one.writer.close()
    assert store().add_feedback(rating(value=False), APP).is_new  # after a restart
    for path in segments(SPOOL):
        path.unlink()
    with pytest.raises(FeedbackRefused, match="not kept any more"):
        other.add_feedback(rating(), APP)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"value": 1.01}, "invalid_value"),
        ({"value": -0.1}, "invalid_value"),
        ({"value": float("nan")}, "invalid_value"),
        ({"value": 1, "type": "boolean"}, "invalid_value"),
        ({"value": True, "type": "float"}, "invalid_value"),
        ({"value": None}, "invalid_value"),
        ({"value": "good"}, "missing_type"),
        ({"value": "x", "type": "label"}, "invalid_type"),
        ({"value": " \n", "type": "comment"}, "empty_value"),
        ({"value": "很" * 3000, "type": "comment"}, "too_long"),
        ({"value": "x" * 1_000_000, "type": "demonstration"}, "too_long"),
        ({"value": "\ud83d", "type": "comment"}, "invalid_value"),
        ({"value": True, "name": "a b"}, "invalid_name"),
        ({"value": True, "source": "robot"}, "invalid_source"),
        ({"value": True, "choice": 1}, "invalid_choice"),
        ({"value": True, "choice": True}, "invalid_choice"),
        ({"value": True, "stars": 5}, "unknown_field"),
        ({"value": True, "response_id": 7}, "invalid_response_id"),
        ({"value": True, "user": ["ann"]}, "invalid_value"),
    ],
)
def test_feedback_that_is_not_allowed_is_refused(changes: dict[str, Any], code: str) -> None:
    store_ = store()
    store_.add_response(response())
    with pytest.raises(FeedbackRefused) as refusal:
        store_.add_feedback(rating() | changes, APP)
    assert (refusal.value.status, refusal.value.code) == (422, code)
    assert records("feedback") == []


def test_the_longest_texts_are_stored_whole() -> None:
    store_ = store()
    store_.add_response(response())
    texts = {"comment": "字" * 2730, "demonstration": "字 " * 16_384}
    for kind, text in texts.items():
        store_.add_feedback(rating(value=text, type=kind), APP)
    assert [record["value"] for record in records("feedback")] == list(texts.values())


def test_personal_data_are_masked_in_all_texts_before_anything_is_written() -> None:
    messages = [
        {"role": "user", "content": "我的邮箱是 li.lei@example.org，请回信。"},
        {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "mail", "arguments": '{"to": "li.lei@example.org"}'}}],
        },
        {"role": "tool", "content": "sent to li.lei@example.org, phone 13812345678"},
    ]
    call = {"name": "call", "arguments": '{"phone": 13812345678}'}
    fields = {"family": "qa", "fields": {"li.lei@example.org": 13812345678, "input": "+1 415 555 2671"}}
    store_ = store()
    store_.add_response(response(1, prompt={"messages": messages}, user="li.lei@example.org", unit="13812345678"))
    store_.add_response(response(2, prompt=fields, answers=(Answer("Call +1 415 555 2671.", calls=(call,)),)))
    text = "Write to li.lei@example.org"
    store_.add_feedback(
        rating(value=text, type="demonstration", user="li.lei@example.org", client_id="13812345678"), APP
    )
    store_.add_feedback(rating(explanation="我是 li.lei@example.org"), APP)
    content = stored_bytes()
    for personal in (b"li.lei", b"13812345678", b"415 555"):
        assert personal not in content
    first, second = (ServedResponse.from_json(record) for record in records("response"))
    assert first.prompt["messages"][0]["content"] == "我的邮箱是 [EMAIL]，请回信。"
    assert first.prompt["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"to": "[EMAIL]"}'
    assert json.loads(second.answers[0].calls[0]["arguments"]) == {"phone": "[PHONE]"}
    assert records("feedback")[0]["value"] == "Write to [EMAIL]"


def test_texts_with_refused_data_are_omitted_but_ratings_are_kept() -> None:
    store_ = store(pii=PiiSettings(email="refuse"))
    store_.add_response(response(text="Write to li.lei@example.org"))
    store_.add_feedback(rating(value=False, explanation="it names li.lei@example.org"), APP)
    store_.add_feedback(rating(value="li.lei@example.org", type="demonstration"), APP)
    served, (first, second) = records("response")[0], records("feedback")
    assert (served["omitted"], served["prompt"]) == ("pii_email", {"family": "qa"})
    assert (served["version"], served["answers"][0]["text"], served["answers"][0]["tokens"]) == (3, "", 3)
    assert (first["value"], first["explanation"], first["omitted"]) == (False, "", "pii_email")
    assert (second["value"], second["omitted"]) == ("", "pii_email")
    assert b"li.lei" not in stored_bytes()


def test_a_share_of_the_texts_is_kept_and_all_ratings() -> None:
    store_ = store(RecordSettings(text_share=0.25))
    served = [response(number, id=f"resp_{number * 0x9E3779B97F4A7C15 % 2**128:032x}") for number in range(200)]
    for each in served:
        store_.add_response(each)
    kept = [record for record in records("response") if not record["omitted"]]
    assert 25 < len(kept) < 75
    assert {record["omitted"] for record in records("response")} == {"", "not_sampled"}
    omitted = next(record for record in records("response") if record["omitted"])
    assert store_.add_feedback(rating() | {"response_id": omitted["id"]}, APP).is_new


def test_users_are_digests_with_the_salt_of_the_project() -> None:
    store_ = store()
    store_.add_response(response(1, user="ann", unit="c1"))
    store_.add_response(response(2, user="ann", unit="c2"))
    store_.add_response(response(3, user=""))
    ann, ann_again, of_key = records("response")
    assert ann["user"] == ann_again["user"] != of_key["user"]
    assert ann["unit"] != ann_again["unit"]
    assert b"ann" not in stored_bytes()
    store_.add_feedback(rating(user="ann"), APP)
    assert records("feedback")[0]["user"] == ann["user"]  # who asked and who judged can be compared
    assert (SPOOL / "salt").stat().st_mode & 0o077 == 0


def test_late_feedback_does_not_bring_back_an_erased_response() -> None:
    store_ = store()
    store_.add_response(response(1))
    add_erased(SPOOL, [response_id(1)])
    with pytest.raises(FeedbackRefused):
        store_.add_feedback(rating(), APP)
    store_.add_response(response(1))
    assert len(records()) == 1
    before = len(segments(SPOOL))
    store_.end_segment_after_erasure()
    store_.end_segment_after_erasure()
    assert len(segments(SPOOL)) == before + 1


def test_damaged_records_are_reported_and_the_others_are_known(caplog: pytest.LogCaptureFixture) -> None:
    store_ = store()
    for number in (1, 2, 3):
        store_.add_response(response(number))
    path = segments(SPOOL)[0]
    content = path.read_bytes().replace(b"city 2", b"city X")
    path.with_suffix(".new").write_bytes(content)
    os.replace(path.with_suffix(".new"), path)  # another inode: the segment is read from its start
    assert store_.add_feedback(rating(3), APP).is_new
    assert "a damaged record of" in caplog.text
    with pytest.raises(FeedbackRefused):
        store_.add_feedback(rating(2), APP)


def test_names_are_those_of_opentelemetry_and_mlflow() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names

    assert conventions.RESPONSE_ID == names.GEN_AI_RESPONSE_ID
    assert conventions.EVALUATION_NAME == names.GEN_AI_EVALUATION_NAME
    assert conventions.SCORE_VALUE == names.GEN_AI_EVALUATION_SCORE_VALUE
    assert conventions.SCORE_LABEL == names.GEN_AI_EVALUATION_SCORE_LABEL
    assert conventions.EXPLANATION == names.GEN_AI_EVALUATION_EXPLANATION
    good = Feedback("fb_1", "resp_1", 1.0, "boolean", "helpful", True, explanation="short", user="u")
    assert conventions.event_attributes(good) == {
        "gen_ai.response.id": "resp_1",
        "gen_ai.evaluation.name": "helpful",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.score.label": "pass",
        "gen_ai.evaluation.explanation": "short",
    }
    comment = Feedback("fb_2", "resp_1", 1.0, "comment", "comment", "太长了")
    assert conventions.event_attributes(comment)["gen_ai.evaluation.explanation"] == "太长了"
    assessment = conventions.assessment_of(good)
    assert (assessment["source"], assessment["rationale"]) == (("HUMAN", "u"), "short")
    assert assessment["metadata"] == {"strop.feedback_id": "fb_1", "strop.feedback_when": "1.0"}


def test_the_attributes_of_a_trace_are_names_of_opentelemetry() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names

    sampling = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 5, "seed": 1, "stop": ["。"], "logprobs": 2}
    trace = trace_of(response(sampling=sampling, unit="c1", prompt_tokens=7, error="engine_lost"))
    known = {value for name, value in vars(names).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    assert set(trace.attributes) - known == {"error.type"}
    assert trace.attributes["gen_ai.request.stop_sequences"] == ["。"]
    assert trace.attributes["gen_ai.usage.input_tokens"] == 7
    assert trace.name == "chat toy@v3"


def test_a_trace_has_no_text_that_the_record_omits() -> None:
    trace = trace_of(response(prompt={"family": "qa"}, answers=(Answer("", "stop", 3),), omitted="pii_email"))
    assert (trace.inputs, trace.outputs) == (None, None)
    assert (trace.tags["strop.omitted"], trace.tags["strop.family"]) == ("pii_email", "qa")


def test_a_document_needs_only_an_id_and_a_value() -> None:
    checked = check_feedback({"response_id": response_id(1), "value": 1})
    assert (checked.type, checked.name, checked.value, checked.source) == ("float", "rating", 1.0, "human")
