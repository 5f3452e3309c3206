"""The registry as a PostgreSQL database: its address, connections without MLflow, and its errors in one line.

MLflow tries for minutes before it reports a wrong password or a missing database; here that takes milliseconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from tasks.errors import RegistryError, without_sql
from tasks.runtime.redaction.text import without_credentials

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

OPTIONS: dict[str, Any] = {"connect_timeout": 10, "client_encoding": "utf8"}
"""Of connections, unless the address has others."""
INSTALL = "Install it: pip install 'strop[postgres]'; the address begins with postgresql://"


def is_postgres(uri: str) -> bool:
    return uri.partition("://")[0].partition("+")[0] == "postgresql"


def with_driver(uri: str) -> str:
    """The address with psycopg 3 as the driver: SQLAlchemy's default is psycopg2. One that names a driver is unchanged."""
    return uri.replace("postgresql", "postgresql+psycopg", 1) if uri.startswith("postgresql://") else uri


@contextlib.contextmanager
def connected(uri: str, engine: Engine | None = None) -> Iterator[Connection]:
    """A connection for queries: a transaction that cannot change anything.

    Args:
        engine: keeps its connections for further queries; without one, a new connection is opened.

    Raises:
        RegistryError: the driver is missing, the database does not answer or refuses the login, or a query fails.
    """
    with database_errors(uri), (engine or engine_of(uri)).connect() as connection:
        yield connection.execution_options(postgresql_readonly=True)


def engine_of(uri: str, keeps_connections: bool = False) -> Engine:
    """
    Args:
        keeps_connections: they must be closed (`dispose`) before the process forks: a copied one would serve two processes.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.pool import NullPool, QueuePool

    url = make_url(uri)
    arguments = {name: value for name, value in OPTIONS.items() if name not in url.query}
    return create_engine(url, poolclass=QueuePool if keeps_connections else NullPool, connect_args=arguments)


@contextlib.contextmanager
def database_errors(uri: str) -> Iterator[None]:
    """Turns the errors of SQLAlchemy and the driver into a RegistryError."""
    from sqlalchemy.exc import NoSuchModuleError, OperationalError, SQLAlchemyError

    where = without_credentials(uri)
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        what = f"the driver for PostgreSQL cannot be loaded ({without_sql(error)})"
        raise RegistryError(what, where=where, fix=INSTALL) from error
    except OperationalError as error:
        fix = "Start it, or fix user, password, host and database in register.tracking_uri (or MLFLOW_TRACKING_URI)"
        raise RegistryError(f"the database cannot be reached ({_reason(error)})", where=where, fix=fix) from error
    except (SQLAlchemyError, ValueError) as error:
        fix = "Check the address, the user's privileges, and that it is the database of an MLflow registry"
        raise RegistryError(f"the database refused ({_reason(error)})", where=where, fix=fix) from error


def query_rows(connection: Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query whose values are `?`, as in SQLite."""
    return [tuple(row) for row in connection.exec_driver_sql(query.replace("?", "%s"), values)]


def tables_of(connection: Connection) -> dict[str, set[str]]:
    """Table → its columns, of the schemas that queries use."""
    query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = ANY (current_schemas(false))"
    tables: dict[str, set[str]] = {}
    for table, column in query_rows(connection, query):
        tables.setdefault(str(table), set()).add(str(column))
    return tables


def require_unicode(connection: Connection, uri: str) -> None:
    """Raises RegistryError for a database that cannot store every character: pages and tags have texts in all languages."""
    query = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    ((encoding,),) = query_rows(connection, query)
    if encoding != "UTF8":
        fix = "Create one and name it in register.tracking_uri: createdb --encoding UTF8 --template template0 strop"
        raise RegistryError(
            f"the database has the encoding {encoding}, not UTF8", where=without_credentials(uri), fix=fix
        )


def require_only_mlflow(tables: Collection[str], uri: str) -> None:
    """Raises RegistryError for a database with tables, but none of MLflow."""
    if tables and "experiments" not in tables:
        what = f"the database has other tables ({', '.join(sorted(tables)[:3])}), and none of MLflow"
        fix = "Name an empty database in register.tracking_uri (createdb strop)"
        raise RegistryError(what, where=without_credentials(uri), fix=fix)


def _reason(error: Exception) -> str:
    """The last of the server's messages: those before it name the addresses that were tried."""
    return without_sql(error).removeprefix("connection failed: ")
