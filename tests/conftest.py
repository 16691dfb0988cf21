"""Fixtures: real servers, a new database for each test, and checks for leftovers.

`server` has one parameter for each major version that is installed.  CI lists the
versions that must be installed in REQUIRE_POSTGRES.
"""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import coverage
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service import app
from service.config import Settings
from service.postgres import embedded, schema

VERSIONS = sorted(embedded.find_binaries())
USERS = 2_000
DAM = 7  # an advisory lock, for which an export of DAMMED waits after 1499 rows
DAMMED = (
    "select * from users where id < 1500"
    f" or (select pg_advisory_xact_lock({DAM})::text) is not null"
)
FOLDERS = {"browser": "browser", "corpus": "slow", "crash": "crash", "package": "slow"}
UNMEASURED = {"older", *FOLDERS.values()}
PATIENCE = 30.0  # seconds to wait for an event before the test fails

# In the background of a shell SIGINT is ignored, and our child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"PostgreSQL: {', '.join(map(str, VERSIONS))}"


def pytest_configure(config: pytest.Config) -> None:
    missing = {int(v) for v in os.environ.get("REQUIRE_POSTGRES", "").split()} - set(
        VERSIONS
    )
    if missing or not VERSIONS:
        raise pytest.UsageError(f"PostgreSQL {sorted(missing)} cannot be run here")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        newest = any(metafunc.definition.iter_markers("newest"))
        older = [] if newest else VERSIONS[:-1]
        metafunc.parametrize(
            "server",
            [
                *(pytest.param(v, id=f"pg{v}", marks=pytest.mark.older) for v in older),
                pytest.param(VERSIONS[-1], id=f"pg{VERSIONS[-1]}"),
            ],
            indirect=True,
            scope="session",
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if mark := FOLDERS.get(item.path.parent.name):
            item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """With `--cov`, leave out the tests that have a mark of `UNMEASURED`.

    Tracing makes Python slower, by a fifth or more.  The processes that a test starts
    are measured with it.
    """
    current = coverage.Coverage.current()
    if current is None:
        return (yield)
    if UNMEASURED.isdisjoint(mark.name for mark in item.iter_markers()):
        # Python reads this at its start, by a hook that coverage installs.
        os.environ["COVERAGE_PROCESS_CONFIG"] = current.config.serialize()
        try:
            return (yield)
        finally:
            del os.environ["COVERAGE_PROCESS_CONFIG"]
    current.stop()
    try:
        return (yield)
    finally:
        current.start()


@contextmanager
def dam(database: str) -> Iterator[None]:
    """Hold exports of `DAMMED` back while the block lasts."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(%s)", [DAM])
        yield


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder that the server's user can reach, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="csv-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, scratch: Path) -> Iterator[str]:
    """The conninfo of a server whose database `pattern` is migrated and seeded."""
    os.environ["PGTZ"] = "UTC"
    quick = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
    version: int = request.param
    with embedded.Postgres(
        scratch / str(version), version=version, settings=quick
    ) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute("create database pattern")
        pattern = make_conninfo(conninfo, dbname="pattern")
        schema.migrate(pattern)
        schema.seed(pattern, USERS)
        yield conninfo


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """The conninfo of a new database, made from the pattern."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"create database {name} template pattern")
        yield make_conninfo(server, dbname=name)
        # The server needs a moment to notice closed connections.
        deadline = time.monotonic() + PATIENCE
        while left := conn.execute(
            "select application_name, query from pg_stat_activity"
            " where datname = %s and usename = 'csv_reader'",
            [name],
        ).fetchall():
            if time.monotonic() > deadline:
                break
        conn.execute(f"drop database {name} with (force)")
        assert not left, "COPYs outlived the test"


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit, as a user of psql has it."""
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def roles(conn: psycopg.Connection[Any]) -> Iterator[list[str]]:
    """Names of roles to drop at the end, with what they own; a test adds its own."""
    names: list[str] = []
    yield names
    conn.execute("reset session authorization")
    for name in names:
        role = psycopg.sql.Identifier(name)
        if conn.execute("select from pg_roles where rolname = %s", [name]).rowcount:
            conn.execute(psycopg.sql.SQL("drop owned by {} cascade").format(role))
            conn.execute(psycopg.sql.SQL("drop role {}").format(role))


@pytest.fixture
def exports_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "exports"
    folder.mkdir()
    yield folder
    assert not list(folder.glob(".*.partial")), "partials outlived the test"


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail the test if an error was logged: a user saw a 500, or a lost connection."""
    yield
    errors = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert not errors, errors


@dataclass
class Service:
    url: str
    http: aiohttp.ClientSession
    settings: Settings
    database: str

    async def export(self, **request: Any) -> dict[str, Any]:
        async with self.http.post("/exports", json=request or None) as answer:
            assert answer.status == 202, await answer.text()
            return await answer.json()

    async def ended(self, id: str, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait until the export has ended, and return it."""

        async def look() -> dict[str, Any] | None:
            async with self.http.get(f"/exports/{id}") as answer:
                export: dict[str, Any] = await answer.json()
            return None if export["status"] in ("pending", "processing") else export

        return await eventually(look, patience)


async def eventually(
    look: Callable[[], Awaitable[Any]], patience: float = PATIENCE
) -> Any:
    """Return the first true answer of *look*, which reads real state."""
    async with asyncio.timeout(patience):
        while not (found := await look()):
            await asyncio.sleep(0.01)
        return found


def psql_copy(database: str, select: str, to: Path) -> bytes:
    """Return the bytes that psql's \\copy writes for *select*."""
    psql = embedded.find_binaries()[VERSIONS[-1]] / "psql"
    copy = rf"\copy ({select}) to '{to}' with (format csv, header)"
    subprocess.run([psql, "-Xqd", database, "-c", copy], check=True)
    return to.read_bytes()


Start = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start(database: str, exports_dir: Path) -> AsyncIterator[Start]:
    """A function that starts the service in this process, with the given settings."""
    async with AsyncExitStack() as stack:

        async def start(
            *, serve: bool = True, work: bool = True, **chosen: Any
        ) -> Service:
            settings = Settings(
                **{
                    "database_url": database,
                    "exports_dir": exports_dir,
                    "port": 0,
                    "poll_interval": 600,
                    "drain_timeout": 0,
                    **chosen,
                }
            )
            assert settings.database_url
            url = await stack.enter_async_context(
                app.running(settings, settings.database_url, serve=serve, work=work)
            )
            http = aiohttp.ClientSession(url or None)
            await stack.enter_async_context(http)
            return Service(url, http, settings, database)

        yield start


@pytest.fixture
async def service(start: Start) -> Service:
    """The API and a worker, which polls so rarely that only notifications wake it."""
    return await start()
