"""Settings of the records of a server: what is written of requests and feedback."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Settings


class RecordSettings(Settings):
    is_on: bool = True
    """Whether requests, answers and feedback are written. Without records there is no feedback: `/v1/feedback` answers 404."""
    text_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of responses whose texts are kept, by their id. The others keep version, times and ratings, and become no rows."""
    sync_seconds: Annotated[float, Field(ge=0, le=60)] = 1.0
    """How often records are flushed to disk: what a failure of the machine may lose. 0: after each portion. Feedback is always
    flushed before it is confirmed."""
    segment_bytes: Annotated[int, Field(ge=4096)] = 16_777_216
    """The size from which records are written to a new file."""
    queue_bytes: Annotated[int, Field(ge=65_536)] = 67_108_864
    """Memory for records that wait to be written. Above it, records are dropped and counted; answers are never delayed."""
