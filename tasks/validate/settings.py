"""Settings of room `validate`. What a good row is stands in data/contract/."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Processes, Settings


class ValidateSettings(Settings):
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The bound on refused rows in a batch, as a share. A batch over it is set aside whole, and the run goes on."""
    data_docs: bool = True
    """Build Great Expectations Data Docs in data/docs/."""
    processes: Processes | None = None
    """How many processes judge a large batch; by default one a core, or as many as the CPU quota allows. The result is the same,
    byte for byte."""
