"""A setting whose value is a name in a plugin table: `kind: Annotated[str, NameIn(CONNECTORS)]`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from tasks.runtime.plugin_table import PluginTable


@dataclass(frozen=True)
class NameIn:
    """Accepts the names that are in the table when a value is parsed, so also those of plugins; the JSON schema lists them."""

    table: PluginTable[Any]
    others: tuple[str, ...] = ()
    """Further valid values, such as `auto`."""

    @property
    def names(self) -> list[str]:
        return [*self.others, *self.table]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"enum": self.names}

    def _check(self, name: str) -> str:
        if name in self.names:
            return name
        *first, last = map(repr, self.names)
        near = difflib.get_close_matches(name, self.names, n=1, cutoff=0.6)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        valid = f"{', '.join(first)} or {last}{hint}"
        raise PydanticCustomError("unknown_name", "Input should be {valid}", {"valid": valid})
