"""Ways to get a SELECT into a CSV file: ours, and what one would do instead.

A way is a function of an `Export` and a check of its file; whatever is listed
in `WAYS` is measured.  psql and Node start a process for each run; what is
Python runs in this one.
"""

import asyncio
import csv
import filecmp
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import asyncpg
import psycopg
from psycopg.conninfo import conninfo_to_dict

from service.copying.copy import Copy
from service.copying.lanes import Lanes
from service.model import Sliceable
from service.postgres.reader import Sessions
from service.storage import Directory

from .common import Server, connection_arguments

NODE = Path(__file__).parent / "node"
REFERENCE = "psql \\copy"
FLOOR = "server-side COPY TO"
NODE_WAY = "Node, pg-query-stream"
PYTHON_BUFFER = 256 * 1024  # bytes


@dataclass(frozen=True)
class Export:
    """One SELECT that is to become the file *path*."""

    server: Server
    conninfo: str
    select: str
    path: Path

    @property
    def copy(self) -> str:
        return f"copy ({self.select}) to stdout with (format csv, header)"


@dataclass(frozen=True)
class Way:
    """How to make the file, and how it must compare with psql's."""

    run: Callable[[Export], None]
    same: Callable[[Path, Path], bool] | None
    ours: bool = False


def by_psql(export: Export) -> None:
    copy = rf"\copy ({export.select}) to '{export.path}' with (format csv, header)"
    psql = export.server.bindir / "psql"
    subprocess.run([psql, "-Xqd", export.conninfo, "-c", copy], check=True)


def by_server(export: Export) -> None:
    """No client at all, and one that only a superuser has."""
    with psycopg.connect(export.conninfo, autocommit=True) as conn:
        conn.execute(
            f"copy ({export.select}) to '{export.path}' with (format csv, header)"
        )


def by_pump(export: Export) -> None:
    _pump(export, keep=False)


def by_durable_pump(export: Export) -> None:
    _pump(export, keep=True)


def _pump(export: Export, *, keep: bool) -> None:
    copy = Copy(Sessions(export.conninfo), "bench", export.select)
    with Directory(export.path.parent).create(export.path.name) as partial:
        copy.run(partial.write)
        if keep:
            partial.keep()


LANES = 2
lanes = Lanes(LANES)  # started by the warm-up, as a worker's by its first large table


def by_lanes(export: Export) -> None:
    with psycopg.connect(export.conninfo) as conn:
        cursor = conn.execute(
            "select string_agg(format('t.%I', attname), ', ' order by attnum)"
            " from pg_attribute where attrelid = 'bench'::regclass and attnum > 0"
        )
        ((columns,),) = cursor.fetchall()
    copy = Copy(
        Sessions(export.conninfo),
        "bench",
        export.select,
        sliceable=Sliceable("bench", f"select {columns} from only ", " as t where "),
        pool=lanes,
    )
    with Directory(export.path.parent).create(export.path.name) as partial:
        copy.run(partial.write)
        partial.keep()
    assert copy.share == 1


def by_psycopg(export: Export) -> None:
    async def run() -> None:
        conn = await psycopg.AsyncConnection.connect(export.conninfo)
        async with conn, conn.cursor() as cursor:
            async with cursor.copy(export.copy) as copy:
                with export.path.open("wb", PYTHON_BUFFER) as file:
                    async for block in copy:
                        file.write(block)

    asyncio.run(run())


def by_asyncpg(export: Export) -> None:
    async def run() -> None:
        conn = await asyncpg.connect(**connection_arguments(export.conninfo))
        await conn.copy_from_query(
            export.select, output=export.path, format="csv", header=True
        )
        await conn.close()

    asyncio.run(run())


def by_node(export: Export) -> None:
    params = conninfo_to_dict(export.conninfo)
    where = {
        "PGHOST": params["host"],
        "PGPORT": params["port"],
        "PGUSER": params["user"],
        "PGDATABASE": params["dbname"],
    }
    script = export.server.folder / "node" / "export.js"
    subprocess.run(
        ["node", script, export.select, export.path],
        env={**os.environ, **where},
        check=True,
    )


def same_bytes(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)


def same_values(one: Path, other: Path) -> bool:
    """Every value of every row is the same once the quotes are gone."""
    with one.open(newline="") as first, other.open(newline="") as second:
        return all(
            a == b for a, b in zip_longest(csv.reader(first), csv.reader(second))
        )


WAYS = {
    REFERENCE: Way(by_psql, same_bytes),
    FLOOR: Way(by_server, same_bytes),
    "pump, sha256": Way(by_pump, None, ours=True),  # it keeps no file
    "pump, sha256, fsync": Way(by_durable_pump, same_bytes, ours=True),
    f"{LANES} lanes, sha256, fsync": Way(by_lanes, same_bytes, ours=True),
    "asyncpg copy_from_query": Way(by_asyncpg, same_bytes),
    "psycopg cursor.copy": Way(by_psycopg, same_bytes),
    NODE_WAY: Way(by_node, same_values),
}


def install_node(server: Server) -> bool:
    """Install the Node pipeline into the server's folder, if there is Node."""
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    folder = server.folder / "node"
    shutil.copytree(NODE, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund"],
        cwd=folder,
        check=True,
    )
    return True
