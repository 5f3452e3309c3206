"""A glance at the registry: where the alias `champion` points, without MLflow, which takes seconds to open.

    seen = glance(config)       # a file: some milliseconds; a server: one request, a few seconds at most

What cannot be known is no error: `trouble` is the reason, and the ledger still answers which model serves.
"""

from __future__ import annotations

import configparser
import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from tasks.runtime.loopback import is_loopback
from tasks.tracking.connection import without_password
from tasks.tracking.login import PASSWORD, USERNAME
from tasks.tracking.model_versions import ANCHORS, RECEIPT_TAG, anchors_of
from tasks.tracking.sqlite_paths import path_of

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

PATIENCE_SECONDS = 5.0
"""The longest that a glance at a server takes, all in all."""
DATABASE_SECONDS = 20.0
"""As long for a database, which MLflow opens: its import alone takes seconds."""
DELETED = "Deleted_Internal"
"""The stage of a version that was deleted, in MLflow's tables."""


@dataclass(frozen=True)
class Seen:
    alias: int | None = None
    """The version that the alias `champion` points at."""
    is_dangling: bool = False
    """The alias points at a version that was deleted."""
    versions: frozenset[int] | None = None
    """The registered versions; None where only the alias was requested."""
    registered: frozenset[int] = frozenset()
    """Those that Strop registered, as far as that is known."""
    anchors: dict[int, frozenset[str]] = field(default_factory=dict)
    """Version → the ledger's entries that its tags name."""
    trouble: str | None = None
    """Why the registry could not be read; None where it was."""


def glance(config: PipelineConfig) -> Seen:
    """Where the alias `champion` of the configured model points now."""
    from tasks.tracking.registry import tracking_login, tracking_uri

    uri, model = tracking_uri(config), config.register_.model_name
    login = tracking_login(config)
    path = path_of(uri)
    if path is not None:
        return _in_file(path, model)
    is_server = uri.startswith("http")
    patience = PATIENCE_SECONDS if is_server else DATABASE_SECONDS
    answer = Seen(trouble=f"{without_password(uri)} did not answer within {patience:.0f} s")
    result = [answer]

    def ask() -> None:
        result[0] = _on_server(uri, model, login) if is_server else _by_mlflow(config)

    thread = threading.Thread(target=ask, daemon=True, name="glance")  # a name that is never resolved ends nothing
    thread.start()
    thread.join(patience)
    return result[0]


def _in_file(path: Path, model: str) -> Seen:
    if not path.exists():
        return Seen(versions=frozenset())
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, timeout=2)) as database:
            return _from_tables(database, model)
    except sqlite3.Error as error:
        return Seen(trouble=f"{path} cannot be read ({error})")


def _from_tables(database: sqlite3.Connection, model: str) -> Seen:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "registered_model_aliases" not in tables:
        return Seen(versions=frozenset())
    aliases = database.execute(
        "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'", (model,)
    ).fetchall()
    result = database.execute(
        "SELECT version FROM model_versions WHERE name = ? AND current_stage != ?", (model, DELETED)
    )
    versions = frozenset(int(version) for (version,) in result)
    tags = database.execute(
        "SELECT version, key, value FROM model_version_tags WHERE name = ? AND key IN (?, ?, ?)",
        (model, RECEIPT_TAG, *ANCHORS),
    ).fetchall()
    kept = [(int(version), key, str(value)) for version, key, value in tags if int(version) in versions]
    anchors = {
        number: frozenset(value for version, key, value in kept if version == number and key in ANCHORS)
        for number in {version for version, _, _ in kept}
    }
    alias = int(aliases[0][0]) if aliases else None
    return Seen(alias, alias is not None and alias not in versions, versions, frozenset(anchors), anchors)


def has_version(config: PipelineConfig, number: int) -> bool | None:
    """Whether a server has this version of the model; None where it does not say."""
    from tasks.tracking.registry import tracking_login, tracking_uri

    what = {"name": config.register_.model_name, "version": str(number)}
    try:
        answer = _get(tracking_uri(config), "model-versions/get", tracking_login(config), what)
    except OSError:
        return None
    return {200: True, 404: False}.get(answer.status_code)


def _on_server(uri: str, model: str, login: dict[str, str]) -> Seen:
    """One request: the version behind the alias, with its tags."""
    try:
        answer = _get(uri, "registered-models/alias", login, {"name": model, "alias": "champion"})
    except OSError as error:
        return Seen(trouble=f"{without_password(uri)} cannot be reached ({type(error).__name__})")
    return _from_answer(answer, without_password(uri))


def _get(uri: str, what: str, login: dict[str, str], params: dict[str, str]) -> Any:
    """A server's answer. Raises OSError, of which requests' own errors are, where there is none."""
    import requests

    parts = urlsplit(uri)
    address = urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/api/2.0/mlflow/{what}", "", ""))
    session = requests.Session()
    if is_loopback(uri):
        session.trust_env = False  # a proxy cannot reach this machine's own servers
    timeout = PATIENCE_SECONDS - 1
    return session.get(address, params=params, timeout=timeout, verify=_certificates(), **_credentials(login))


def _from_answer(answer: Any, uri: str) -> Seen:
    try:
        content = answer.json()
    except ValueError:
        content = {}
    if answer.status_code == 200 and "model_version" in content:
        version = content["model_version"]
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", ())}
        number = int(version["version"])
        registered = frozenset({number} if RECEIPT_TAG in tags else ())
        return Seen(number, registered=registered, anchors={number: frozenset(tags[k] for k in ANCHORS if k in tags)})
    message = str(content.get("message", ""))
    if answer.status_code == 404 and "model version" in message.lower():
        return Seen(is_dangling=True)
    if content.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return Seen()  # no such model, or no such alias
    return Seen(trouble=f"{uri} refused (HTTP {answer.status_code})")


def _credentials(login: dict[str, str]) -> dict[str, Any]:
    """As MLflow's client finds them: in the address (`login`), the environment, or its own file."""
    given = {**os.environ, **login}
    user, password = given.get(USERNAME), given.get(PASSWORD)
    if not user:
        stored = configparser.ConfigParser(interpolation=None)
        try:
            stored.read(Path.home() / ".mlflow" / "credentials")
            user = stored.get("mlflow", "mlflow_tracking_username", fallback=None)
            password = stored.get("mlflow", "mlflow_tracking_password", fallback=None)
        except (configparser.Error, OSError, RuntimeError):
            user = None
    if user and password:
        return {"auth": (user, password)}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"headers": {"Authorization": f"Bearer {token}"}} if token else {}


def _certificates() -> bool | str:
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def _by_mlflow(config: PipelineConfig) -> Seen:
    """A database of another kind: there is no quicker way than MLflow's own."""
    from tasks.errors import RegistryError
    from tasks.tracking.registry import open_registry

    try:
        registry = open_registry(config)
        versions = registry.versions()
        alias = registry.alias("champion")
    except RegistryError as error:
        return Seen(trouble=error.what)
    numbers = frozenset(version.version for version in versions)
    registered = frozenset(version.version for version in versions if RECEIPT_TAG in version.tags)
    anchors = {v.version: anchors_of(v) for v in versions}
    return Seen(alias, alias is not None and alias not in numbers, numbers, registered, anchors)
