"""The door to DVC: add the raw batches, reproduce a stage, ask what is out of date, push, and fetch what a version held.

    add_raw()
    ran = reproduce("finetune")        # False: it was up to date, or came from DVC's run cache
    fetch_from("tiny@v3", Path("data/model"), Path("somewhere"))

DVC's own chatter is kept quiet; a stage's output passes through.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks import git, paths
from tasks.errors import VersioningError

if TYPE_CHECKING:
    from dvc.repo import Repo

LOCK_WAIT_SECONDS = 600.0
RETRY_EVERY_SECONDS = 1.0
LOCAL_ONLY = "local only"

T = TypeVar("T")


def add_raw() -> None:
    """Puts data/raw under DVC as it now is (data/raw.dvc)."""
    _with_repo(lambda repo: repo.add([str(paths.RAW)]), "dvc add data/raw")


def reproduce(stage: str) -> bool:
    """Brings one stage up to date. True if it ran; False if it was up to date or came from the run cache.

    Waits while another process works on the same files.

    Raises:
        VersioningError: the stage failed (its own line was printed), or another process did not end in ten minutes.
    """
    with _first_on_path(), _watching_runs() as ran:
        _with_repo(lambda repo: repo.reproduce(targets=[stage], single_item=True), f"dvc repro {stage}", stage=stage)
    return bool(ran)


def changed_stages(ignoring: set[str] | frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Each stage (and .dvc file) that is out of date, and what changed, such as `data/raw (modified)`."""
    found = _with_repo(lambda repo: repo.status(), "dvc status")
    changed = {name: _what_changed(entries, ignoring) for name, entries in found.items()}
    return {name: what for name, what in changed.items() if what}


def changed_inputs(ignoring: set[str] | frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """As `changed_stages`, but only what comes from outside: data, parameters and code, not what another stage makes.

    An output that was deleted or not made yet is no news from the world.
    """
    found = _with_repo(
        lambda repo: (repo.status(), {str(out) for s in repo.index.stages for out in _made(s)}), "dvc status"
    )
    statuses, made = found
    changed = {}
    for name, entries in statuses.items():
        if what := _what_changed(entries, {*ignoring, *made}):
            changed[name] = what
    return changed


def is_clean() -> bool:
    """Whether every stage is up to date: `dvc status` has nothing to say."""
    return paths.DVC_LOCK.exists() and paths.RAW_DVC.exists() and not changed_stages()


def output_hash(path: Path, revision: str | None = None) -> str | None:
    """DVC's hash of an output, by dvc.lock and the .dvc files (of a commit, if one is named); a folder's ends in `.dir`."""
    name = path.as_posix()
    for out in _outputs(revision):
        if out["path"] == name:
            return str(out["md5"])
    return None


def dataset_version() -> str | None:
    """The dataset's version: the hash of data/curated. None before it was made."""
    return output_hash(paths.CURATED)


def remote_name() -> str:
    """The DVC remote that versions are pushed to, by name and address, or `local only`."""
    return _with_repo(_default_remote, "dvc remote list") or LOCAL_ONLY


def push() -> str:
    """Pushes every output to the DVC remote: "pushed", or "local only" where no remote is set.

    Raises:
        VersioningError: the remote cannot be reached or refused.
    """
    if remote_name() == LOCAL_ONLY:
        return LOCAL_ONLY
    _with_repo(lambda repo: _reaching(repo, repo.push), "dvc push")
    return "pushed"


@dataclass(frozen=True)
class StoredFile:
    relpath: str
    """Within the output; empty where the output is a file."""
    md5: str
    """As the listing says."""
    path: Path
    """Where its bytes lie, in DVC's cache."""


def stored_files(revision: str, path: Path) -> list[StoredFile]:
    """The files of an output as a commit knows them, in the local cache; what is missing there comes from the remote.

    Raises:
        VersioningError: the commit knows no such output, or neither cache nor remote has it.
    """
    commit = git.resolve(revision)
    digest = output_hash(path, commit) if commit else None
    if commit is None or digest is None:
        raise VersioningError(f"holds no {path}", where=revision, fix="See the versions: strop history")

    def look(repo: Repo) -> list[StoredFile]:
        odb = repo.cache.local
        wanted = _listed(odb, digest)
        if wanted is None or any(not file.path.exists() for file in wanted):
            _fetch(repo, commit, path)
            wanted = _listed(odb, digest)
        if wanted is None or any(not file.path.exists() for file in wanted):
            fix = "Set a DVC remote that has it: dvc remote add --default NAME URL"
            raise VersioningError(f"{path} of {revision} is neither in the local cache nor in a remote", fix=fix)
        return wanted

    return _with_repo(look, f"dvc get {path}")


def fetch_from(revision: str, path: Path, target: Path) -> None:
    """Puts an output as a commit knows it (a tag, a ref) at `target`, which must not exist; hard links where possible."""
    files = stored_files(revision, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    for file in files:
        place = beside / file.relpath if file.relpath else beside
        place.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(file.path, place)
    if not files:
        beside.mkdir()
    beside.replace(target)  # whole or not at all


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, which costs no space; a copy where the disk differs."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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


def _outputs(revision: str | None) -> list[dict[str, Any]]:
    """Every output that dvc.lock and the .dvc files in data/ tell of."""
    from ruamel.yaml import YAML

    def read(path: Path) -> Any:
        here = path.read_bytes() if revision is None and path.exists() else None
        content = git.read_at(revision, path) if revision is not None else here
        return YAML(typ="safe", pure=True).load(content.decode("utf-8")) if content else {}

    outputs: list[dict[str, Any]] = []
    for stage in (read(paths.DVC_LOCK).get("stages") or {}).values():
        outputs += stage.get("outs") or []
    for out in read(paths.RAW_DVC).get("outs") or []:
        outputs.append({**out, "path": (paths.RAW_DVC.parent / out["path"]).as_posix()})
    return outputs


def _listed(odb: Any, digest: str) -> list[StoredFile] | None:
    """What a hash stands for; None where a folder's listing is not in the cache."""
    import json

    place = Path(odb.oid_to_path(digest))
    if not digest.endswith(".dir"):
        return [StoredFile("", digest, place)]
    if not place.exists():
        return None
    try:
        entries = json.loads(place.read_bytes())
        return [StoredFile(e["relpath"], e["md5"], Path(odb.oid_to_path(e["md5"]))) for e in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise VersioningError(
            "damaged: not a folder's listing", where=str(place), fix="Remove it, then run again"
        ) from error


def _fetch(repo: Repo, commit: str, path: Path) -> None:
    """From the remote into the cache; silent where there is none, because the caller looks again."""
    if _default_remote(repo):
        _reaching(repo, lambda: repo.fetch(targets=[str(path)], revs=[commit], workspace=False))


def _reaching(repo: Repo, work: Callable[[], Any]) -> None:
    """Does something that needs the remote, and tells what its client says in one line."""
    from dvc.exceptions import DvcException

    try:
        work()
    except DvcException:
        raise  # told by the caller
    except Exception as error:  # S3, SSH and the others each have an exception tree of their own
        told = " ".join(str(error).split())[:300] or type(error).__name__
        fix = "Mend the remote or its credentials (dvc remote list), then run again"
        raise VersioningError(
            f"the DVC remote cannot be used ({told})", where=_default_remote(repo), fix=fix
        ) from error


def _default_remote(repo: Repo) -> str | None:
    name = repo.config["core"].get("remote")
    if not name:
        return None
    return f"{name} {repo.config['remote'].get(name, {}).get('url', '')}".strip()


def _with_repo(work: Callable[[Repo], T], doing: str, stage: str | None = None) -> T:
    """Does `work` on the DVC repository here, waiting while another process holds it, and tells failures in one line."""
    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo
    from dvc.scm import SCMError

    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    is_told = False
    while True:
        try:
            with set_loggers_level(logging.CRITICAL), contextlib.closing(Repo()) as repo:
                return work(repo)
        except (DvcException, SCMError) as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise _told(error, doing, stage) from error
            if not is_told:
                print(
                    f"{doing}: waiting for another process that works on the same data …", file=sys.stderr, flush=True
                )
                is_told = True
        time.sleep(RETRY_EVERY_SECONDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_locked(error: BaseException) -> bool:
    from dvc.lock import LockError

    return any(isinstance(cause, LockError) for cause in _causes(error))


def _told(error: BaseException, doing: str, stage: str | None) -> VersioningError:
    """What DVC said, in one line, with what to do."""
    from dvc.exceptions import CheckoutError, NotDvcRepoError
    from dvc.stage.exceptions import StageCmdFailedError

    for cause in _causes(error):
        if isinstance(cause, StageCmdFailedError) and stage:
            return VersioningError(f"stage `{stage}` failed; its reason stands above", fix="Mend that, then run again")
        if isinstance(cause, NotDvcRepoError):
            return VersioningError("no DVC repository", where=str(Path.cwd()), fix="Make one: dvc init")
        if isinstance(cause, CheckoutError):
            break
    if _is_locked(error):
        return VersioningError(
            f"{doing}: another process still works on the same data", fix="End it, or wait, then run again"
        )
    reasons = dict.fromkeys(" ".join(str(cause).split()).rstrip(".") for cause in _causes(error))  # each once, in order
    told = ": ".join([reason for reason in reasons if reason][:2])
    return VersioningError(f"{doing}: {told or type(error).__name__}", fix="See: dvc status; dvc doctor")


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
