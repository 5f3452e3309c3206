"""Statistics of the families' rows, and the checks that a family has templates and, to classify, two classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tasks import paths
from tasks.errors import ConfigError, DataError
from tasks.prompts.templates.templates import FamilyTemplates
from tasks.scoring.metrics import METRICS


@dataclass
class FamilyStats:
    """Statistics of a family's rows."""

    rows: int = 0
    some_labels: set[str] = field(default_factory=set)
    """Two different outputs, or the only one."""

    def add(self, outputs: pa.ChunkedArray) -> None:
        self.rows += len(outputs)
        if len(self.some_labels) < 2:
            self.some_labels.update(pc.unique(outputs).to_pylist()[:2])


def require_templates(stats: Mapping[str, FamilyStats], families: dict[str, FamilyTemplates]) -> None:
    missing = sorted(set(stats) - set(families))
    if missing:
        what = f"no templates for the family {', '.join(missing)}; there are templates for {', '.join(families)}"
        correct = "correct `family` of the source in params.yaml, then: strop data reread SOURCE"
        raise ConfigError(
            what, where=str(paths.TEMPLATES), fix=f"Write {paths.TEMPLATES}/{missing[0]}.yaml; or {correct}"
        )


def require_classes(stats: Mapping[str, FamilyStats], families: dict[str, FamilyTemplates]) -> None:
    for family, of_family in stats.items():
        if METRICS[families[family].kind].is_classification and len(of_family.some_labels) == 1:
            (label,) = of_family.some_labels
            raise DataError(
                f"family {family} has only one class ({label!r}, {of_family.rows} rows): a classifier needs two",
                where=str(paths.CURATED),
                fix="Add a source with the other classes, or correct `columns: {label: …}` of its source in params.yaml",
            )
