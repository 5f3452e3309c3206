"""The Jinja environment: the sandbox, with a limit on steps and on the size of every string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from functools import lru_cache
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.runtime.bounded_jinja.rewriting import count_steps
from tasks.runtime.bounded_jinja.sizes import (
    MAX_CHARACTERS,
    MAX_WIDTH,
    WIDE_PERCENT,
    is_small,
    require_formatted,
    require_product,
    require_size,
    require_text,
)
from tasks.runtime.bounded_jinja.steps import (
    CHARACTERS_PER_STEP,
    FILTERS,
    STEPS_PER_CALL,
    bounded,
    charge,
    count_output,
    step,
    steps_of,
)

MAX_SOURCE = 128 * 1024
"""The limit for a template's source: Jinja's compile time is quadratic in the number of macros."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also raises SecurityError if a template takes too many steps or a value grows too large."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.bound()

    def bound(self) -> None:
        """Removes or wraps functions whose output has no size limit."""
        self.globals.pop("lipsum", None)
        self.filters |= FILTERS
        known: dict[str, Callable[..., Any]]
        for known in (self.filters, self.tests):  # type: ignore[assignment]
            for name, function in known.items():
                if not name.startswith("strop_") and not getattr(function, "is_bounded", False):
                    known[name] = bounded(name, function)
        self.finalize = count_output

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise SecurityError(f"a template of {len(source):,} characters; the limit is {MAX_SOURCE:,}")
        try:
            tree = super()._parse(source, name, filename)
        except RecursionError:
            raise SecurityError("it is nested too deeply") from None
        count_steps(tree)
        return tree

    def _compile(self, source: str, filename: str) -> Any:
        try:
            return super()._compile(source, filename)
        except SyntaxError:  # Python's own limit
            raise SecurityError("its loops are nested too deeply") from None

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            if not (is_small(left, 10**6) and is_small(right, 64)):
                raise SecurityError("a power of large numbers")
        elif operator == "*":
            require_product(left, right)
        elif operator == "%":
            if isinstance(left, str):
                if WIDE_PERCENT.search(left):
                    raise SecurityError(f"a text of more than {MAX_WIDTH:,} characters by %")
                require_formatted(left, [right])
        elif isinstance(left, Sized) and isinstance(right, Sized):
            require_size(left, len(left) + len(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, (str, list)):
            step(context, len(result) // CHARACTERS_PER_STEP)
        return result

    def call(__self, __context: Context, __obj: Any, *arguments: Any, **options: Any) -> Any:
        step(__context, STEPS_PER_CALL)
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, LoopContext) and arguments and isinstance(arguments[0], Sized):  # a recursive loop
            step(__context, len(arguments[0]))
        for argument in arguments:
            if isinstance(argument, tuple):
                step(__context, steps_of(argument))
        if isinstance(owner, (str, bytes, list, tuple, dict)):
            name = getattr(__obj, "__name__", "")
            charge(__context, name, (owner, *arguments, *options.values()))
            if isinstance(owner, (str, bytes)):
                require_text(owner, name, arguments, options)
        return super().call(__context, __obj, *arguments, **options)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded_format(*arguments: Any, **options: Any) -> str:
            require_text(str(value.__self__), "format", arguments, options)
            return wrapped(*arguments, **options)

        return bounded_format

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:  # type: ignore[override]
        """The rendered text."""
        parts, size = [], 0
        for piece in pieces:
            size += len(piece)
            if size > MAX_CHARACTERS:
                raise SecurityError(f"it writes more than {MAX_CHARACTERS:,} characters")
            parts.append(piece)
        return "".join(parts)


def has_loops(environment: BoundedEnvironment, source: str) -> bool:
    """Whether the template may repeat its input in the output; then the output size must be checked (`concat`)."""
    tree = environment.parse(source)
    return next(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)), None) is not None


def bound_chat_templates() -> None:
    """Makes transformers in this process render chat templates in bounded time and memory."""
    from transformers.utils import chat_template_utils

    plain = chat_template_utils._compile_jinja_template
    if getattr(plain, "is_bounded", False):
        return

    @lru_cache(maxsize=64)
    def compiled(chat_template: str) -> Any:
        # has transformers' filters and tags; from an empty template, because compiling already evaluates constants
        environment = chat_template_utils._cached_compile_jinja_template("").environment
        environment.__class__ = BoundedEnvironment
        environment.bound()
        return environment.from_string(chat_template)

    compiled.is_bounded = True  # type: ignore[attr-defined]
    chat_template_utils._compile_jinja_template = compiled
