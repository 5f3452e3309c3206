"""What a recorder does with responses and feedback: masks them, and writes each piece of feedback once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.feedback.check import CheckedFeedback, FeedbackRefused, check_feedback, unknown_response
from tasks.feedback.erased import ErasedIds
from tasks.feedback.index import SpoolIndex
from tasks.feedback.masking import masked_feedback, masked_response
from tasks.feedback.records import Feedback, ServedResponse, Stored
from tasks.feedback.settings import RecordSettings
from tasks.feedback.spool import SpoolWriter
from tasks.pii.settings import PiiSettings

logger = logging.getLogger(__name__)

SALT = "salt"
"""In the spool's folder: without it, digests of users could be computed from a list of users."""


@dataclass(frozen=True)
class Giver:
    """Who sends feedback."""

    key: str
    """The name of the API key."""
    is_admin: bool = False
    """Whether it may judge responses to other keys."""


class FeedbackStore:
    """One for each process that writes."""

    def __init__(
        self, spool: Path, settings: RecordSettings, pii: PiiSettings, now: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._pii, self._now = settings, pii, now
        self.writer = SpoolWriter(spool, settings.segment_bytes)
        self._salt = read_salt(spool)
        self._index = SpoolIndex(spool)
        self._erased = ErasedIds(spool)
        self._erased.ids()
        self._seen = self._erased.state

    def add_response(self, response: ServedResponse) -> None:
        """Writes a response; its user and units as a client names them."""
        if response.id in self._erased.ids():
            return
        user = self._digest("user", response.user) if response.user else self._digest("key", response.key)
        unit, arm_unit = (self._digest("unit", unit) if unit else "" for unit in (response.unit, response.arm_unit))
        hashed = replace(response, user=user, unit=unit, arm_unit=arm_unit)
        self.writer.append(masked_response(hashed, self._pii, self._settings.text_share).as_json())

    def add_feedback(self, document: Mapping[str, Any], giver: Giver, idempotency_key: str = "") -> Stored:
        """Stores feedback, unless the same was stored before.

        Raises:
            FeedbackRefused: 404 for an unknown response or one of another key, 422 for what is not allowed.
        """
        checked = check_feedback(document)
        self._index.refresh()
        self._report_damage()
        owner = self._index.owner(checked.response)
        if owner is None or (owner.key != giver.key and not giver.is_admin):
            raise unknown_response()
        if checked.choice >= max(owner.choices, 1):
            raise FeedbackRefused(422, "invalid_choice", f"the response has {owner.choices} answers", "choice")
        feedback = self._feedback(checked, giver, idempotency_key)
        if feedback.request and (sent := self._index.request(feedback.request)):
            if sent.digest != feedback.digest:
                message = "this `Idempotency-Key` was sent with other feedback"
                raise FeedbackRefused(422, "idempotency_key_reused", message, "Idempotency-Key")
            return Stored(sent.id, is_new=False)
        known = self._index.feedback(feedback.id)
        if known is not None and known.digest == feedback.digest:
            return Stored(feedback.id, is_new=False)
        self.writer.append(masked_feedback(feedback, self._pii).as_json())
        return Stored(feedback.id, is_new=True)

    def end_segment_after_erasure(self) -> None:
        """Begins a new segment if responses were erased since the last call: the erasure rewrites the earlier ones."""
        self._erased.ids()
        if self._erased.state != self._seen:
            self._seen = self._erased.state
            self.writer.begin_segment()

    def _feedback(self, checked: CheckedFeedback, giver: Giver, idempotency_key: str) -> Feedback:
        user = self._digest("user", checked.user) if checked.user else self._digest("key", giver.key)
        group = checked.type if isinstance(checked.value, str) else "rating"
        identity = [checked.response, checked.choice, checked.name, group, checked.source, user, checked.client_id]
        content = [*identity, checked.type, checked.value, checked.explanation]
        return Feedback(
            id=f"fb_{self._digest('feedback', identity)}",
            response=checked.response,
            when=self._now(),
            type=checked.type,
            name=checked.name,
            value=checked.value,
            choice=checked.choice,
            explanation=checked.explanation,
            source=checked.source,
            user=user,
            key=giver.key,
            digest=self._digest("content", content),
            request=self._digest("request", [giver.key, idempotency_key]) if idempotency_key else "",
        )

    def _digest(self, what: str, value: Any) -> str:
        """32 hexadecimal digits."""
        content = json.dumps([what, value]).encode()
        return hashlib.blake2b(content, key=self._salt, digest_size=16).hexdigest()

    def _report_damage(self) -> None:
        for message in self._index.damage:
            logger.warning(f"serve: {message}")
        self._index.damage.clear()


def read_salt(spool: Path) -> bytes:
    """The salt of the spool, made at its first use."""
    path = spool / SALT
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        temporary = path.with_name(f".{SALT}-{secrets.token_hex(6)}")
        temporary.touch(0o600)
        temporary.write_bytes(secrets.token_bytes(32))
        try:
            with contextlib.suppress(FileExistsError):  # another gateway made it
                path.hardlink_to(temporary)
        finally:
            temporary.unlink()
    return path.read_bytes()
