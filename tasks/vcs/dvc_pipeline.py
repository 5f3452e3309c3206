"""DVC commands: add the raw batches, reproduce a stage, list what is out of date, push.

    add_raw()
    ran = reproduce("finetune")        # False: it was up to date, or came from DVC's run cache

DVC's own messages are suppressed; a stage's output is not.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.errors import VersioningError
from tasks.runtime.files import md5_of
from tasks.runtime.redaction.tool_configs import first_secret
from tasks.vcs.dvc_fast_status import is_unchanged
from tasks.vcs.dvc_outputs import dataset_version, output_hashes
from tasks.vcs.dvc_repo import default_remote, with_remote_errors, with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo

logger = logging.getLogger(__name__)

LOCAL_ONLY = "local only"


def add_raw() -> None:
    """Adds data/raw to DVC in its present state (data/raw.dvc)."""
    with_repo(lambda repo: repo.add([str(paths.RAW)]), "dvc add data/raw")


def reproduce(stage: str) -> bool:
    """Brings one stage up to date. True if it ran; False if it was up to date or came from the run cache.

    Waits while another process works on the same files.

    Raises:
        VersioningError: the stage failed (it printed its own message), or another process held DVC's lock for ten minutes.
    """

    def work(repo: Repo) -> None:
        _verify_cache(repo, stage)
        repo.reproduce(targets=[stage], single_item=True)

    with _first_on_path(), _watching_runs() as ran:
        with_repo(work, f"dvc repro {stage}", stage=stage)
    logger.debug(f"{stage}: {'ran' if ran else 'up to date, or restored from the run cache'}")
    return bool(ran)


def changed_stages() -> dict[str, list[str]]:
    """Each stage (and .dvc file) that is out of date, and its changes, such as `data/raw (modified)`."""
    return _changes_by_stage(with_repo(lambda repo: repo.status(), "dvc status"), ignoring=frozenset())


def changed_inputs(ignoring: set[str] | frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """As `changed_stages`, but only external inputs: data, parameters and code, not the outputs of other stages.

    A deleted or missing output is not a change of the inputs.
    """

    def look(repo: Repo) -> tuple[dict[str, list[Any]], set[str]]:
        # a .dvc file is a data source
        return repo.status(), {str(out) for s in repo.index.stages if not s.is_data_source for out in s.outs}

    statuses, outputs = with_repo(look, "dvc status")
    return _changes_by_stage(statuses, {*ignoring, *outputs})


def is_clean() -> bool:
    """Whether every stage is up to date, by `dvc status`.

    Raises:
        VersioningError: DVC's own files are damaged; DVC reads some damaged files as empty ones.
    """
    if not paths.DVC_LOCK.exists() or not paths.RAW_DVC.exists():
        return False
    output_hashes()
    return not changed_stages()


def unrecorded_dataset() -> str | None:
    """DVC's hash of data/curated if it differs from dvc.lock: a stage was run by hand, or a file was changed.

    None if it is the dataset in dvc.lock, or if there is none. A folder that did not change since the last check is not read.
    """
    if is_unchanged() or not paths.CURATED.is_dir() or not any(paths.CURATED.iterdir()):
        return None

    def hash_of_dataset(repo: Repo) -> str | None:
        (out,) = repo.find_outs_by_path(str(paths.CURATED))
        value: str | None = out.get_hash().value
        return value

    current = with_repo(hash_of_dataset, "dvc status")
    return None if current == dataset_version() else current


def remote_name() -> str:
    """Name and address of the DVC remote that versions are pushed to, or `local only`."""
    return with_repo(default_remote, "dvc remote list") or LOCAL_ONLY


def require_remote() -> None:
    """Checks that the default remote can be used, if there is one.

    Raises:
        VersioningError: it cannot be reached or written, or its credentials are missing.
    """

    def look(repo: Repo) -> None:
        if default_remote(repo) is not None:
            with_remote_errors(repo, lambda: _look_at_remote(repo))

    with_repo(look, "dvc remote")


def _look_at_remote(repo: Repo) -> None:
    storage = repo.cloud.get_remote_odb()
    if storage.fs.protocol != "local":
        storage.fs.exists(storage.path)
        return
    path = Path(storage.path)
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise PermissionError(f"{existing} is not a folder that can be written to")


def require_private_secrets() -> None:
    """Checks that .dvc/config, which is in git and in the commit of every version, has no secret.

    Raises:
        VersioningError: the password or key of a remote is in it.
    """
    if (secret := first_secret(paths.DVC_CONFIG)) is not None:
        section, key = secret
        name = section.partition(" ")[2].strip("\"'") or "NAME"
        fix = f"Store it outside git: dvc remote modify --local {name} {key} VALUE, and remove it from .dvc/config"
        raise VersioningError(f"`{key}` of remote `{name}` is a secret", where=str(paths.DVC_CONFIG), fix=fix)


def push() -> str:
    """Pushes every output to the DVC remote. Returns "pushed", or "local only" if no remote is set.

    Raises:
        VersioningError: the remote cannot be reached, or rejects the push.
    """
    if remote_name() == LOCAL_ONLY:
        return LOCAL_ONLY
    with_repo(lambda repo: with_remote_errors(repo, repo.push), "dvc push")
    return "pushed"


def _verify_cache(repo: Repo, stage: str) -> None:
    """Verifies outputs in the cache before they are restored, from the run cache or by their hashes in dvc.lock: they may be hard
    links of files edited in place. An object whose content does not match its hash is removed, and the stage runs."""
    load = repo.stage_cache._load

    def load_checked(stage: Any) -> Any:
        entry = load(stage)
        for out in (entry or {}).get("outs", ()):
            if digest := out.get("md5"):
                _remove_damaged(repo, digest)
        return entry

    repo.stage_cache._load = load_checked
    for dvc_stage in repo.stage.collect(stage):
        for out in dvc_stage.outs:
            if not out.exists and out.hash_info and out.hash_info.value:
                _remove_damaged(repo, out.hash_info.value)


def _remove_damaged(repo: Repo, digest: str) -> None:
    odb = repo.cache.local
    path = Path(odb.oid_to_path(digest))
    if not path.exists():
        return
    if md5_of(path) != digest.removesuffix(".dir"):
        path.unlink()
    elif digest.endswith(".dir"):
        for entry in json.loads(path.read_bytes()):
            _remove_damaged(repo, entry["md5"])


def _changes_by_stage(statuses: dict[str, list[Any]], ignoring: set[str] | frozenset[str]) -> dict[str, list[str]]:
    return {name: changes for name, entries in statuses.items() if (changes := _changes(entries, ignoring))}


def _changes(entries: list[Any], ignoring: set[str] | frozenset[str]) -> list[str]:
    changes = []
    for entry in entries:
        if isinstance(entry, str):
            changes.append(entry)  # "changed command", "always changed"
            continue
        for states in entry.values():
            for name, state in states.items():
                if isinstance(state, dict):  # parameters: {"params.yaml": {"finetune.lora": "modified"}}
                    changes += [f"{name}:{key} ({change})" for key, change in state.items() if key not in ignoring]
                elif name not in ignoring:
                    changes.append(f"{name} ({state})")
    return changes


@contextlib.contextmanager
def _first_on_path() -> Iterator[None]:
    """Makes `python` in dvc.yaml the Python of this process, also where its environment is not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextlib.contextmanager
def _watching_runs() -> Iterator[list[str]]:
    """Collects DVC's log records of commands that it runs: its return value is the same for a stage restored from the run cache."""
    import dvc.stage.run  # creates the logger

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if str(record.msg).startswith("Running stage"):
                ran.append(record.getMessage())

    ran: list[str] = []
    dvcs_logger = logging.getLogger(dvc.stage.run.__name__)
    before = (dvcs_logger.level, dvcs_logger.propagate)
    listener = Listener()
    dvcs_logger.addHandler(listener)
    dvcs_logger.setLevel(logging.INFO)
    dvcs_logger.propagate = False
    try:
        yield ran
    finally:
        dvcs_logger.removeHandler(listener)
        dvcs_logger.setLevel(before[0])
        dvcs_logger.propagate = before[1]
