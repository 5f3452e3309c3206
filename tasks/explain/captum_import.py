"""Captum, imported when an explanation is made: it takes half a second."""

from __future__ import annotations

from typing import Any

from tasks.errors import ConfigError


def captum_attr() -> Any:
    """The module `captum.attr`.

    Raises:
        ConfigError: Captum is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        fix = "Install the packages of constraints.txt: make setup"
        raise ConfigError(f"Captum cannot be imported ({error})", where="strop explain", fix=fix) from error
    return captum.attr
