"""Settings of room `validate`. The rules for rows are in data/contract/."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Processes, Settings


class ValidateSettings(Settings):
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The largest share of refused rows in a batch. A batch over it is set aside whole, and the run continues."""
    data_docs: bool = True
    """Build Great Expectations Data Docs in data/docs/."""
    processes: Processes | None = None
    """Processes that judge a large batch; by default one per core, or as many as the CPU quota allows. It does not change the
    result."""
