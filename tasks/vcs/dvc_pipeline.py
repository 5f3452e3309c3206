"""The door to DVC: add the raw batches, reproduce a stage, ask what is out of date, push.

    add_raw()
    ran = reproduce("finetune")        # False: it was up to date, or came from DVC's run cache

DVC's own chatter is kept quiet; a stage's output passes through.
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
from tasks.runtime.redaction.tool_configs import written_secret
from tasks.vcs.dvc_fast_status import is_unchanged
from tasks.vcs.dvc_outputs import dataset_version, output_hashes
from tasks.vcs.dvc_repo import default_remote, reaching, with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo

LOCAL_ONLY = "local only"


def add_raw() -> None:
    """Puts data/raw under DVC as it now is (data/raw.dvc)."""
    with_repo(lambda repo: repo.add([str(paths.RAW)]), "dvc add data/raw")


def reproduce(stage: str) -> bool:
    """Brings one stage up to date. True if it ran; False if it was up to date or came from the run cache.

    Waits while another process works on the same files.

    Raises:
        VersioningError: the stage failed (its own line was printed), or another process did not end in ten minutes.
    """

    def work(repo: Repo) -> None:
        _check_what_comes_back(repo)
        _check_what_is_missing(repo, stage)
        repo.reproduce(targets=[stage], single_item=True)

    with _first_on_path(), _watching_runs() as ran:
        with_repo(work, f"dvc repro {stage}", stage=stage)
    return bool(ran)


def changed_stages(ignoring: set[str] | frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Each stage (and .dvc file) that is out of date, and what changed, such as `data/raw (modified)`."""
    found = with_repo(lambda repo: repo.status(), "dvc status")
    changed = {name: _what_changed(entries, ignoring) for name, entries in found.items()}
    return {name: what for name, what in changed.items() if what}


def changed_inputs(ignoring: set[str] | frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """As `changed_stages`, but only what comes from outside: data, parameters and code, not what another stage makes.

    An output that was deleted or not made yet is no news from the world.
    """
    found = with_repo(
        lambda repo: (repo.status(), {str(out) for s in repo.index.stages for out in _made(s)}), "dvc status"
    )
    statuses, made = found
    changed = {}
    for name, entries in statuses.items():
        if what := _what_changed(entries, {*ignoring, *made}):
            changed[name] = what
    return changed


def is_clean() -> bool:
    """Whether every stage is up to date: `dvc status` has nothing to say.

    Raises:
        VersioningError: DVC's own files are damaged; it takes some of them for empty ones.
    """
    if not paths.DVC_LOCK.exists() or not paths.RAW_DVC.exists():
        return False
    output_hashes()
    return not changed_stages()


def unrecorded_dataset() -> str | None:
    """DVC's hash of data/curated, where dvc.lock names another dataset or none: a stage was run by hand, or a file was changed.

    None where it is the one of dvc.lock, or nothing lies there. A folder that is as DVC last saw it is not read.
    """
    if is_unchanged() or not paths.CURATED.is_dir() or not any(paths.CURATED.iterdir()):
        return None

    def look(repo: Repo) -> str | None:
        (out,) = repo.find_outs_by_path(str(paths.CURATED))
        found: str | None = out.get_hash().value
        return found

    found = with_repo(look, "dvc status")
    return None if found == dataset_version() else found


def remote_name() -> str:
    """The DVC remote that versions are pushed to, by name and address, or `local only`."""
    return with_repo(default_remote, "dvc remote list") or LOCAL_ONLY


def require_private_secrets() -> None:
    """Nothing in .dvc/config, which git keeps and every version's commit holds, is a secret.

    Raises:
        VersioningError: a remote's password or key is in it.
    """
    if (found := written_secret(paths.DVC_CONFIG)) is not None:
        section, key = found
        name = section.partition(" ")[2].strip("\"'") or "NAME"
        fix = f"Put it where git does not look: dvc remote modify --local {name} {key} VALUE, and remove it from there"
        raise VersioningError(f"`{key}` of remote `{name}` is a secret", where=str(paths.DVC_CONFIG), fix=fix)


def push() -> str:
    """Pushes every output to the DVC remote: "pushed", or "local only" where no remote is set.

    Raises:
        VersioningError: the remote cannot be reached or refused.
    """
    if remote_name() == LOCAL_ONLY:
        return LOCAL_ONLY
    with_repo(lambda repo: reaching(repo, repo.push), "dvc push")
    return "pushed"


def _check_what_comes_back(repo: Repo) -> None:
    """Outputs that come from the run cache are read first: they may be hard links of files that somebody edited in place. An object
    that is not what its name says is removed, and the stage runs."""
    load = repo.stage_cache._load

    def load_checked(stage: Any) -> Any:
        entry = load(stage)
        for out in (entry or {}).get("outs", ()):
            if digest := out.get("md5"):
                _remove_damaged(repo, digest)
        return entry

    repo.stage_cache._load = load_checked


def _check_what_is_missing(repo: Repo, stage: str) -> None:
    """The same for outputs that are not there: they come back from the cache by what dvc.lock says."""
    for each in repo.stage.collect(stage):
        for out in each.outs:
            if not out.exists and out.hash_info and out.hash_info.value:
                _remove_damaged(repo, out.hash_info.value)


def _remove_damaged(repo: Repo, digest: str) -> None:
    odb = repo.cache.local
    place = Path(odb.oid_to_path(digest))
    if not place.exists():
        return
    if md5_of(place) != digest.removesuffix(".dir"):
        place.unlink()
    elif digest.endswith(".dir"):
        for entry in json.loads(place.read_bytes()):
            _remove_damaged(repo, entry["md5"])


def _made(stage: Any) -> list[Any]:
    """What a stage of dvc.yaml makes; a .dvc file makes nothing."""
    return [] if stage.is_data_source else list(stage.outs)


def _what_changed(entries: list[Any], ignoring: set[str] | frozenset[str]) -> list[str]:
    told = []
    for entry in entries:
        if isinstance(entry, str):
            told.append(entry)  # "changed command", "always changed"
            continue
        for changes in entry.values():
            for name, state in changes.items():
                if isinstance(state, dict):  # parameters: {"params.yaml": {"finetune.lora": "modified"}}
                    told += [f"{name}:{key} ({how})" for key, how in state.items() if key not in ignoring]
                elif name not in ignoring:
                    told.append(f"{name} ({state})")
    return told


@contextlib.contextmanager
def _first_on_path() -> Iterator[None]:
    """`python` in dvc.yaml is the Python that runs us, whether or not its environment was activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextlib.contextmanager
def _watching_runs() -> Iterator[list[str]]:
    """Collects what DVC says when it really runs a command: it returns the same for a stage from its run cache."""
    import dvc.stage.run  # makes the logger

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if str(record.msg).startswith("Running stage"):
                ran.append(record.getMessage())

    ran: list[str] = []
    logger = logging.getLogger(dvc.stage.run.__name__)
    before = (logger.level, logger.propagate)
    listener = Listener()
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    sys.stdout.flush()
    try:
        yield ran
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before[0])
        logger.propagate = before[1]
