"""A table of named parts of one kind (objectives, source kinds, metrics, …): the product's own, and those that plugins add."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from tasks.errors import ConfigError

T = TypeVar("T")
STAGES = ("validate", "curate", "render", "finetune", "evaluate", "gate")
"""The stages in dvc.yaml, in order."""


class UnknownName(ValueError):
    """A setting names an entry that is not in its table; it may be that of a plugin which could not be loaded."""


class PluginTable(Mapping[str, T], Generic[T]):
    """A mapping of names that plugins extend.

    Args:
        kind: a noun for messages, such as "objective".
        stages: the stages of dvc.yaml that read the table. A change of a plugin that adds to it makes them run again.
    """

    def __init__(self, kind: str, entries: Mapping[str, T], stages: tuple[str, ...] = STAGES) -> None:
        self.kind = kind
        self.stages = stages
        self._entries = dict(entries)

    def add(self, name: str, entry: T) -> None:
        """Adds an entry, as a module listed under `plugins:` in params.yaml does when it is imported.

        Raises:
            ConfigError: the name is already in the table.
        """
        if name in self._entries:
            raise ConfigError(f"the {self.kind} `{name}` exists already", fix="Choose another name in the plugin")
        self._entries[name] = entry
        ADDITIONS.append((self, name))

    def remove(self, name: str) -> None:
        """Removes an entry that a plugin added, when the plugin is unloaded."""
        del self._entries[name]

    def unknown(self, name: str) -> str:
        """The message for a name that is not in the table, with the nearest one."""
        near = difflib.get_close_matches(name, self, n=1)
        hint = f"did you mean `{near[0]}`? There are" if near else "there are"
        article = "an" if self.kind[0] in "aeiou" else "a"
        return f"{json.dumps(name, ensure_ascii=False)} is not {article} {self.kind}; {hint} {', '.join(self)}"

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


ADDITIONS: list[tuple[PluginTable[Any], str]] = []
"""(table, name) of the entries that loaded plugins added, in order."""
