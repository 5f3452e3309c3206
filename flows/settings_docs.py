"""The docstrings under the fields of the settings, read from the source when they are needed.

Pydantic's `use_attribute_docstrings` reads them in every process: 50 ms of each start, and 300 ms if many modules are imported.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from tasks.config import PipelineConfig, settings_within


@cache
def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field → its docstring, of a settings class and its parents."""
    docs: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent.model_fields:
            tree = ast.parse(textwrap.dedent(inspect.getsource(parent)))
            assert isinstance(tree.body[0], ast.ClassDef)
            for field, text in pairwise(tree.body[0].body):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
                    docs[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))  # type: ignore[attr-defined]
    return docs


def json_schema() -> dict[str, Any]:
    """The JSON schema of params.yaml, with the docstrings as descriptions."""
    schema = PipelineConfig.model_json_schema(by_alias=True)
    for model in settings_classes():
        section = schema if model is PipelineConfig else schema["$defs"][model.__name__]
        for name, text in field_docs(model).items():
            section["properties"][model.model_fields[name].alias or name]["description"] = text
    return schema


def settings_classes(model: type[BaseModel] = PipelineConfig) -> set[type[BaseModel]]:
    """The settings of every section, and of those within it."""
    inner = (settings_within(field.annotation) for field in model.model_fields.values())
    return {model}.union(*(settings_classes(each) for each in inner if each is not None))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
