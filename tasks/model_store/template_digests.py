"""The digests of the prompt templates that a model was trained with, by family."""

from __future__ import annotations

from typing import Any

from tasks.runtime.files import content_digest


def template_digests(templates: dict[str, Any]) -> dict[str, str]:
    """Family → digest of its templates.

    Args:
        templates: the content of a model's templates.json; {} where it has none.
    """
    return {family: content_digest(entry) for family, entry in sorted((templates.get("families") or {}).items())}
