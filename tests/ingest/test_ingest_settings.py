"""Mistakes in a source's declaration are told before anything is read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.ingest.readers import REQUIRED_FIELDS
from tasks.ingest.settings import FIELDS, Source

NEWS = {"name": "news", "path": "a.csv", "shape": "text_label", "family": "topic"}


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    for encoding in ("utf8mb4", "base64", ""):
        with pytest.raises(ValidationError, match="is no text encoding; use utf-8, gb18030"):
            Source.model_validate(NEWS | {"encoding": encoding})


def test_a_mapped_field_that_the_shape_lacks_is_refused() -> None:
    with pytest.raises(ValidationError, match="shape `text_label` has no field body; it has text, label, id"):
        Source.model_validate(NEWS | {"columns": {"body": "text"}})


def test_every_shape_says_which_fields_it_has_and_which_it_needs() -> None:
    assert FIELDS.keys() == REQUIRED_FIELDS.keys()
    assert all(set(needed) <= set(FIELDS[shape]) for shape, needed in REQUIRED_FIELDS.items())
