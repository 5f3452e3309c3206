"""The model that serve.py serves: the champion of a project, and its adapter merged into the base, as its peer needs it."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

from measuring import missing, require_base
from serve_gateway import Served


def champion_of(project: Path, spool: str) -> Served:
    """The champion of a project's ledger. Exits with one line if there is none."""
    from tasks.config import load_config
    from tasks.errors import StropError
    from tasks.model_store.ledger import read_ledger
    from tasks.model_store.ledger_entries import champion_of as newest_champion
    from tasks.model_store.versions import weights_folder

    with chdir(project):
        try:
            config = load_config()
            champion = newest_champion(read_ledger(config.register_.model_name))
            if champion is None:
                missing(
                    f"{project} has no champion", "strop run and strop promote there, or name a folder with --model"
                )
            assert champion is not None
            name, digest = config.register_.model_name, champion.weights_digest
            folder = weights_folder(name, champion.version, digest).resolve()
        except StropError as error:
            missing(f"{project}: {str(error).splitlines()[0]}", "repair the project, or name a folder with --model")
        base = config.base.model_dump(mode="json")
        if (local := Path(str(base["model"]))).exists():
            base["model"] = str(local.resolve())
    require_base(str(base["model"]))
    return Served(str(folder), base, spool)


def full_weights(folder: Path, spool: str) -> Served:
    """A folder with full weights, which need no base: the folder takes its place."""
    path = str(folder.resolve())
    return Served(path, {"model": path}, spool)


def merged_model(served: Served, work: Path) -> Served:
    """The same model as full fp32 weights in a folder of their own; a model without an adapter as it is."""
    from tasks.base.load import is_adapter, load_tokenizer, load_trained
    from tasks.base.pin import pin_base
    from tasks.base.settings import BaseSettings

    if not is_adapter(Path(served.folder)):
        return served
    with chdir(work):
        model: Any = load_trained(Path(served.folder), pin_base(BaseSettings.model_validate(served.base)))
        target = work / "merged"
        model.merge_and_unload().save_pretrained(target)
        load_tokenizer(Path(served.folder)).save_pretrained(target)
    return full_weights(target, served.spool)
