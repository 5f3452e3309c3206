"""The project's Great Expectations context: stored in a git-ignored folder, its site in data/docs, its log messages silenced."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.runtime.logs.libraries import set_library_level

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

SITE = "strop"


def open_context() -> Any:
    """The project's Great Expectations context: in a git-ignored folder, its site in data/docs."""
    import great_expectations as gx

    paths.GREAT_EXPECTATIONS.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=paths.GREAT_EXPECTATIONS.resolve())
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(Path(paths.DATA_DOCS).resolve()),
        },
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    context.variables.progress_bars = {"globally": False}
    for name in list(context.variables.data_docs_sites or {}):
        if name != SITE:
            context.delete_data_docs_site(name)
    if SITE in (context.variables.data_docs_sites or {}):
        context.update_data_docs_site(SITE, site)
    else:
        context.add_data_docs_site(SITE, site)
    return context


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the library's log messages and warnings, none of which concerns the user's data."""
    set_library_level("great_expectations")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
