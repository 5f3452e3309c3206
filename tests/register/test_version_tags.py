"""The tags of a version follow from its receipt by one table, which a plugin extends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.errors import ConfigError
from tasks.runtime.plugins import unload_plugins
from tasks.tracking.tags import VERSION_TAGS, VersionFacts, facts_of, version_tags


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    yield
    unload_plugins()


RECEIPT = {"weights": "w", "dataset": "d", "verdict": {"passed": False}, "base": {"id": "org/base"}}


def test_a_lost_commit_leaves_the_tags_that_the_ledger_knows() -> None:
    own = {"strop.receipt": "r", "strop.weights": "w", "strop.dataset": "d", "strop.verdict": "refused"}
    assert version_tags(facts_of(RECEIPT, "r")) == own
    VERSION_TAGS.add("team.base", lambda version: version.receipt["base"]["id"] if version.receipt else None)
    assert version_tags(facts_of(RECEIPT, "r")) == {**own, "team.base": "org/base"}
    assert version_tags(VersionFacts("r", "w", "d", "refused", None)) == own


@pytest.mark.parametrize("name", ["strop.judged", "mlflow.parentRunId"])
def test_a_plugin_cannot_set_a_tag_that_strop_or_mlflow_sets(name: str) -> None:
    VERSION_TAGS.add(name, lambda version: "x")
    with pytest.raises(ConfigError, match=f"registry tag `{name}`: the name is reserved"):
        version_tags(facts_of(RECEIPT, "r"))
