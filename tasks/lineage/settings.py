"""Settings of room `lineage`."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Settings


class LineageSettings(Settings):
    openlineage: Annotated[str, Field(min_length=1)] | None = None
    """Where OpenLineage events of runs are sent: the URL of a receiver such as Marquez (`http://marquez:5000`), or a file, which
    gets one JSON object per line; none by default ([OpenLineage](reports.md#openlineage)). A key is in the environment
    variable OPENLINEAGE_API_KEY. A receiver that fails never stops or delays a run."""
