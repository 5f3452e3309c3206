"""A quick look at the registry: where the alias `champion` points, without MLflow, which takes seconds to open.

    state = glance(config)      # a file: some milliseconds; a database or server: a few seconds at most

An unreadable registry is no error: `problem` holds the reason, and the ledger still decides which model serves.
"""

from __future__ import annotations

import configparser
import os
import sqlite3
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from tasks.errors import RegistryError
from tasks.runtime.loopback import is_loopback
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.login import PASSWORD, USERNAME
from tasks.tracking.model_versions import anchors_of
from tasks.tracking.postgres import connected, is_postgres, query_rows, tables_of
from tasks.tracking.sqlite_paths import open_read_only, path_of
from tasks.tracking.tags import ANCHORS, RECEIPT_TAG

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

TIMEOUT_SECONDS = 5.0
"""The longest that a request to a server may take in all."""
DATABASE_SECONDS = 20.0
"""The same for a database: where MLflow opens it, its import alone takes seconds."""
DELETED = "Deleted_Internal"
"""The stage of a deleted version in MLflow's tables."""


@dataclass(frozen=True)
class RegistryState:
    alias: int | None = None
    """The version that the alias `champion` points at."""
    is_dangling: bool = False
    """The alias points at a version that was deleted."""
    versions: frozenset[int] | None = None
    """The registered versions; None where only the alias was requested."""
    anchors: dict[int, frozenset[str]] = field(default_factory=dict)
    """Version that Strop registered, as far as known → the ledger entries that its tags name."""
    problem: str | None = None
    """Why the registry could not be read; None where it was."""


def glance(config: PipelineConfig) -> RegistryState:
    """The version that the alias `champion` of the configured model points at."""
    from tasks.tracking.registry import tracking_login, tracking_uri

    uri, model = tracking_uri(config), config.register_.model_name
    login = tracking_login(config)
    path = path_of(uri)
    if path is not None:
        return _in_file(path, model)
    is_server = uri.startswith("http")
    timeout = TIMEOUT_SECONDS if is_server else DATABASE_SECONDS
    default = RegistryState(problem=f"{without_credentials(uri)} did not answer within {timeout:.0f} s")
    result = [default]

    def read() -> None:
        if is_server:
            result[0] = _on_server(uri, model, login)
        else:
            result[0] = _in_database(uri, model) if is_postgres(uri) else _by_mlflow(config)

    thread = threading.Thread(target=read, daemon=True, name="glance")  # a DNS lookup that hangs must not block
    thread.start()
    thread.join(timeout)
    return result[0]


def _in_file(path: Path, model: str) -> RegistryState:
    if not path.exists():
        return RegistryState(versions=frozenset())
    try:
        with open_read_only(path) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return _from_tables(lambda query, *values: database.execute(query, values).fetchall(), tables, model)
    except sqlite3.Error as error:
        return RegistryState(problem=f"{path} cannot be read ({error})")


def _in_database(uri: str, model: str) -> RegistryState:
    try:
        with connected(uri) as connection:
            return _from_tables(partial(query_rows, connection), tables_of(connection), model)
    except RegistryError as error:
        return RegistryState(problem=f"{without_credentials(uri)}: {error.what}")


def _from_tables(rows: Callable[..., list[Any]], tables: Collection[str], model: str) -> RegistryState:
    """
    Args:
        rows: the rows of a query, whose values follow it.
    """
    if "registered_model_aliases" not in tables:
        return RegistryState(versions=frozenset())
    aliases = rows("SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'", model)
    query = "SELECT version FROM model_versions WHERE name = ? AND current_stage != ?"
    versions = {int(version) for (version,) in rows(query, model, DELETED)}
    query = "SELECT version, key, value FROM model_version_tags WHERE name = ? AND key IN (?, ?, ?)"
    tags = rows(query, model, RECEIPT_TAG, *ANCHORS)
    tags_of: dict[int, dict[str, str]] = {number: {} for number in versions}
    for version, key, value in tags:
        if int(version) in tags_of:
            tags_of[int(version)][key] = str(value)
    return _state(int(aliases[0][0]) if aliases else None, tags_of)


def _state(alias: int | None, tags_of: dict[int, dict[str, str]]) -> RegistryState:
    """The state of a registry whose versions are all known, with these tags."""
    return RegistryState(alias, alias not in (None, *tags_of), frozenset(tags_of), anchors_of(tags_of))


def has_version(config: PipelineConfig, number: int) -> bool | None:
    """Whether a server has this version of the model; None where it gives no answer."""
    from tasks.tracking.registry import tracking_login, tracking_uri

    params = {"name": config.register_.model_name, "version": str(number)}
    try:
        response = request(tracking_uri(config), "model-versions/get", tracking_login(config), params)
    except OSError:
        return None
    return {200: True, 404: False}.get(response.status_code)


def _on_server(uri: str, model: str, login: dict[str, str]) -> RegistryState:
    """One request: the version behind the alias, with its tags."""
    try:
        response = request(uri, "registered-models/alias", login, {"name": model, "alias": "champion"})
    except OSError as error:
        return RegistryState(problem=f"{without_credentials(uri)} cannot be reached ({type(error).__name__})")
    return _from_response(response, without_credentials(uri))


def request(
    uri: str,
    endpoint: str,
    login: dict[str, str],
    fields: dict[str, Any],
    *,
    method: str = "GET",
    api: str = "mlflow",
    seconds: float = TIMEOUT_SECONDS - 1,
    stream: bool = False,
) -> Any:
    """A server's response. Raises OSError (requests' own errors are OSErrors) where there is none.

    Args:
        fields: the query of a GET, the JSON body of a POST.
        api: the part of MLflow's API: `mlflow`, or `mlflow-artifacts` for files.
    """
    import requests

    parts = urlsplit(uri)
    address = urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/api/2.0/{api}/{endpoint}", "", ""))
    session = requests.Session()
    if is_loopback(uri):
        session.trust_env = False  # a proxy cannot reach this machine's own servers
    options: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
    options |= {"timeout": seconds, "stream": stream, "verify": _certificates(), **_credentials(login)}
    return session.request(method, address, **options)


def _from_response(response: Any, uri: str) -> RegistryState:
    try:
        content = response.json()
    except ValueError:
        content = {}
    if response.status_code == 200 and "model_version" in content:
        version = content["model_version"]
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", ())}
        number = int(version["version"])
        return RegistryState(number, anchors=anchors_of({number: tags}))
    message = str(content.get("message", ""))
    if response.status_code == 404 and "model version" in message.lower():
        return RegistryState(is_dangling=True)
    if content.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return RegistryState()  # no such model, or no such alias
    return RegistryState(problem=f"{uri} refused (HTTP {response.status_code})")


def _credentials(login: dict[str, str]) -> dict[str, Any]:
    """From the same places as MLflow's client: the address (`login`), the environment, or its own file."""
    settings = {**os.environ, **login}
    user, password = settings.get(USERNAME), settings.get(PASSWORD)
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


def _by_mlflow(config: PipelineConfig) -> RegistryState:
    """A database of another kind, through MLflow: there is no quicker access."""
    from tasks.tracking.registry import open_registry

    try:
        registry = open_registry(config)
        tags_of = {version.version: version.tags for version in registry.versions()}
        return _state(registry.alias("champion"), tags_of)
    except RegistryError as error:
        return RegistryState(problem=error.what)
