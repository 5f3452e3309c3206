"""The registered model's versions, their tags, and the aliases that point at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tasks.errors import RegistryError
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.connection import RegistryConnection, all_pages, mlflow_errors
from tasks.tracking.tags import ANCHORS, RECEIPT_TAG, WRITABLE_TAG


@dataclass(frozen=True)
class Version:
    version: int
    run_id: str
    source: str
    tags: dict[str, str]
    aliases: list[str]
    created: float
    """Seconds since 1970."""
    description: str = ""
    """The text on its page, in Markdown."""


def anchors_of(tags_of: Mapping[int, Mapping[str, str]]) -> dict[int, frozenset[str]]:
    """Version → the ledger entries that its tags name, of every version that Strop registered."""
    ours = {number: tags for number, tags in tags_of.items() if not tags.keys().isdisjoint((RECEIPT_TAG, *ANCHORS))}
    return {number: frozenset(tags[key] for key in ANCHORS if key in tags) for number, tags in ours.items()}


def no_such_version(number: int, model: str, versions: Iterable[int], where: str) -> RegistryError:
    """The error for a version that a registry does not have.

    Args:
        versions: those that it has, oldest first.
    """
    return RegistryError(
        f"has no version {number} of {model}; it has {', '.join(map(str, versions)) or 'none'}",
        where=where,
        fix="See: strop history. If the registry was lost, make it again: strop registry rebuild",
    )


class Versions(RegistryConnection):
    """The versions and aliases of one registered model."""

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        with mlflow_errors(self.uri):
            models = list(all_pages(partial(self.client.search_model_versions, f"name='{self.model}'")))
            aliases = self._aliases()
        return sorted((_version(v, aliases) for v in models), key=lambda v: v.version)

    def version(self, number: int) -> Version:
        """Raises RegistryError where there is no such version."""
        versions = {version.version: version for version in self.versions()}
        if number not in versions:
            raise no_such_version(number, self.model, versions, without_credentials(self.uri))
        return versions[number]

    def anchors(self) -> dict[int, frozenset[str]]:
        """Version that Strop registered → the ledger entries that its tags name."""
        return anchors_of({version.version: version.tags for version in self.versions()})

    def find_version(self, tag: str, value: str) -> Version | None:
        """The oldest version whose tag has that value."""
        return next((v for v in self.versions() if v.tags.get(tag) == value), None)

    def create_version(self, source: str, run_id: str, tags: Mapping[str, str]) -> int:
        """Creates a version of a logged model together with its tags. Returns its number."""
        from mlflow.exceptions import MlflowException

        with mlflow_errors(self.uri):
            try:
                self.client.create_registered_model(self.model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # a server accepts a logged model as a source only together with the model's id
            model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
            version = self.client.create_model_version(self.model, source, run_id, tags=dict(tags), model_id=model_id)
        return int(version.version)  # an int on sqlite, a string over HTTP

    def delete_version(self, number: int) -> None:
        """Removes a version; MLflow never reuses its number."""
        with mlflow_errors(self.uri):
            self.client.delete_model_version(self.model, str(number))

    def put_aside(self, name: str) -> None:
        """Renames the registered model and its experiment, so that new ones can have their names."""
        from mlflow.exceptions import MlflowException

        with mlflow_errors(self.uri):
            try:
                self.client.rename_registered_model(self.model, name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            self.client.rename_experiment(self.experiment_id, name)

    def set_version_tags(self, number: int, tags: Mapping[str, str]) -> None:
        with mlflow_errors(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(self.model, str(number), key, value)

    def describe_version(self, number: int, text: str) -> None:
        """Sets the text on a version's page."""
        with mlflow_errors(self.uri):
            self.client.update_model_version(self.model, str(number), description=text)

    def require_writable(self, number: int) -> None:
        """Writes a tag of a version with its present value: a tag that never changes, so that no other write is undone.

        Raises:
            RegistryError: there is no such version, or this login may not write; nothing has changed.
        """
        receipt = self.version(number).tags.get(RECEIPT_TAG)
        self.set_version_tags(number, {RECEIPT_TAG: receipt} if receipt else {WRITABLE_TAG: "true"})

    def alias(self, name: str) -> int | None:
        """The version that an alias points at."""
        with mlflow_errors(self.uri):
            return self._aliases().get(name)

    def set_alias(self, name: str, number: int) -> None:
        with mlflow_errors(self.uri):
            self.client.set_registered_model_alias(self.model, name, str(number))

    def remove_alias(self, name: str) -> None:
        with mlflow_errors(self.uri):
            if name in self._aliases():
                self.client.delete_registered_model_alias(self.model, name)

    def _aliases(self) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            aliases = self.client.get_registered_model(self.model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {name: int(number) for name, number in aliases.items()}


def _version(model: Any, aliases: dict[str, int]) -> Version:
    number = int(model.version)
    names = sorted(name for name, target in aliases.items() if target == number)
    created, description = model.creation_timestamp / 1000, model.description or ""
    return Version(number, model.run_id, model.source, dict(model.tags), names, created, description)
