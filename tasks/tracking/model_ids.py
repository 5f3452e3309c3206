"""The id of the logged model that a version's source names."""

from __future__ import annotations

from tasks.errors import RegistryError


def model_id_of(source: str | None) -> str:
    """The id of the logged model. Raises RegistryError where the source names none: Strop's all do."""
    if not names_model(source):
        fix = "See who registered it: strop history. Make it again: strop registry rebuild"
        raise RegistryError("names no logged model", where=f"the registry, source {source!r}", fix=fix)
    return str(source).removeprefix("models:/")


def names_model(source: str | None) -> bool:
    return str(source).startswith("models:/m-")
