"""Run a regression script: compare its SELECTs, and run the others to prepare them.

Each script gets a database of its own.  The other statements run in order, as a
superuser: temporary tables become permanent, so that csv_reader can see them, and
transactions are skipped.  SELECTs are collected, and compared together before a
statement runs that could change their results.
"""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from service.postgres import embedded, schema

from . import scripts
from .compare import Outcome, Psql, compare, serving
from .scripts import Script, Statement

DATA = Path(__file__).parent / "data"
SERVER = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "allow_in_place_tablespaces": "on",
    "statement_timeout": "4s",  # some statements of the scripts would never end
    "timezone": "UTC",
}
MOST = 250  # statements compared together

# Scripts that use the tables of other scripts.
NEEDS = {
    "create_am": ["create_index"],
    "create_view": ["create_misc"],
    "geometry": ["point", "lseg", "line", "box", "path", "polygon", "circle"],
    "horology": ["date", "time", "timetz", "timestamp", "timestamptz", "interval"],
    "inherit": ["create_misc"],
    "misc": ["create_misc"],
    "portals_p2": ["create_misc"],
    "rules": ["create_view"],
    "select_views": ["create_misc", "create_view"],
    "tstypes": ["tsearch"],
}
LEFT_OUT = {
    "test_setup": "it is the pattern of every database",
    "psql_pipeline": "no statements but psql's own",
}

UNFIT = re.compile(
    # These crash PostgreSQL 18.4; the bugs were fixed later.
    r"satisfies_hash_partition\(.*variadic null::int\[\]"
    r"|::sqljson_mystr (?:is json|with unique)"
    # A variable of psql that is not set here.
    r"|(?<!:):(['\"])\w+\1",
    re.I,
)

READS = {"select", "values", "table", "with", "("}
WRITES = {"25006", "0A000", "42501"}  # errors if csv_reader tries to write
HARMLESS = {"explain", "set", "reset", "show", "analyze", "vacuum", "comment"}
TRANSACTIONS = {
    "abort", "begin", "commit", "end", "release", "rollback", "savepoint", "start",
}  # fmt: skip
SKIPPED = re.compile(
    r"alter system|(alter|create|drop) (database|subscription)|create tablespace"
    r"|prepare transaction|checkpoint|load |reindex (system|database)|set client_encoding"
    r"|set names|set (local )?statement_timeout"
)
TEMPORARY = (
    (re.compile(r"\b(create\s+(?:or\s+replace\s+)?|into\s+)(?:local\s+|global\s+)?"
                r"temp(?:orary)?\b", re.I), r"\1"),
    (re.compile(r"\bon\s+commit\s+(?:drop|(?:delete|preserve)\s+rows)", re.I), ""),
    (re.compile(r"\bpg_temp\.", re.I), "public."),
)  # fmt: skip
VARIABLE = re.compile(r"(?<![:\w]):(['\"]?)(\w+)\1(?!\w)")
FROM_FILE = re.compile(r"copy\s+(?:binary\s+)?(\w+)[^;]*\b(?:from|to)\s+:'\w+'", re.I)
FROM_STDIN = re.compile(r"\bfrom\s+stdin\b", re.I)
SEARCH_PATH = re.compile(r"^set\s+search_path\s*(?:=|to)\s*([^;]+);", re.I | re.M)


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Run a server of the newest version; yield the conninfo of its pattern.

    It is separate from that of the other tests, because the scripts create roles,
    and csv_reader may read everything on it.
    """
    with embedded.Postgres(folder, settings=SERVER) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute("create database corpus")
        pattern = make_conninfo(conninfo, dbname="corpus")
        schema.migrate(pattern)
        with psycopg.connect(pattern, autocommit=True) as conn:
            conn.execute("grant pg_read_all_data to csv_reader")
        yield pattern


@contextmanager
def database(pattern: str, name: str, *schemas: str) -> Iterator[str]:
    """Make a copy of the pattern, with *schemas* first in the search_path."""
    server = make_conninfo(pattern, dbname="postgres")
    it = sql.Identifier(name)
    path = sql.SQL(", ").join(map(sql.Identifier, [*schemas, "public"]))
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} template corpus").format(it))
        conn.execute(
            sql.SQL("alter database {} set search_path to {}").format(it, path)
        )
        try:
            yield make_conninfo(pattern, dbname=name)
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(it))


async def prepare(pattern: str) -> None:
    """Create the tables that all scripts use."""
    async with Setup.of(pattern) as setup:
        await setup.script("test_setup")


async def run(name: str, pattern: str, folder: Path) -> list[Outcome]:
    """Return the outcome of every SELECT of the script *name*."""
    text = read(name)
    folder.mkdir(parents=True)
    exports_dir = folder / "exports"
    exports_dir.mkdir()
    outcomes: list[Outcome] = []
    with database(pattern, f"corpus_{name}".replace(".", "_"), *schemas(text)) as url:
        async with Setup.of(url) as setup, serving(url, exports_dir) as service:
            psql = Psql(url, folder)
            for needed in NEEDS.get(name, []):
                await setup.script(needed)
            waiting: dict[str, Statement] = {}

            async def flush() -> None:
                if waiting:
                    found, measure = await compare(list(waiting), psql, service)
                    outcomes.extend(found)
                    for statement, answer in zip(list(waiting.values()), measure):
                        if answer.sqlstate in WRITES:
                            await setup.run(statement)
                    waiting.clear()

            script = Script(text)
            for statement in script:
                statement = setup.filled(statement)
                if statement.first and statement.first[0] in READS:
                    if not script.backslashes and not UNFIT.search(statement.text):
                        waiting.setdefault(statement.text, statement)
                    if statement.end not in ("gset", "gexec"):
                        if len(waiting) >= MOST:
                            await flush()
                        continue
                if not harmless(statement):
                    await flush()
                if not await setup.run(statement, script):
                    break
            await flush()
    shutil.rmtree(folder)
    return outcomes


def read(name: str) -> str:
    text = (scripts.fetch() / f"{name}.sql").read_bytes()
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def names() -> list[str]:
    """Return the scripts that have SELECTs worth comparing."""
    found = sorted(path.stem for path in scripts.fetch().glob("*.sql"))
    return [name for name in found if name not in LEFT_OUT]


def schemas(text: str) -> list[str]:
    """Return the schemas that the script puts on its search_path."""
    named = [
        name.strip().strip("'\"")
        for path in SEARCH_PATH.findall(text)
        for name in path.split(",")
    ]
    own = ("", "public", "default", "pg_catalog", "pg_temp")
    return [name for name in dict.fromkeys(named) if name.lower() not in own]


def harmless(statement: Statement) -> bool:
    """Return whether the statement leaves the results of other statements unchanged."""
    if not statement.text:
        return statement.end != "c"
    first = statement.first[:1]
    return not first or first[0] in HARMLESS | TRANSACTIONS


@dataclass
class Setup:
    """A superuser's session that runs a script as psql would."""

    url: str
    conn: psycopg.AsyncConnection[Any]
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator["Setup"]:
        setup = cls(url, await connect(url))
        try:
            yield setup
        finally:
            await setup.conn.close()

    async def script(self, name: str) -> None:
        """Run a whole script, without SELECTs that do not create a table."""
        script = Script(read(name))
        for statement in script:
            reads = statement.first and statement.first[0] in READS
            if not reads or re.search(r"\binto\b", statement.text, re.I):
                await self.run(self.filled(statement), script)

    def filled(self, statement: Statement) -> Statement:
        """Replace psql's variables, and make temporary tables permanent."""
        text = statement.text
        if not FROM_FILE.search(text):
            text = VARIABLE.sub(self._value, text)
        for pattern, instead in TEMPORARY:
            text = pattern.sub(instead, text)
        first = statement.first
        if text != statement.text:
            parsed = next(iter(Script(f"{text};")), None)
            first = parsed.first if parsed else ()
        return Statement(text, first, statement.end, statement.argument)

    async def run(self, statement: Statement, script: Script | None = None) -> bool:
        """Run the statement and ignore errors; return false if the script ends here."""
        try:
            if statement.text:
                await self._execute(statement, script)
                return True
            return await self._command(statement, script)
        except (psycopg.Error, UnicodeDecodeError):
            if self.conn.closed:
                self.conn = await connect(self.url)
            return True

    async def _execute(self, statement: Statement, script: Script | None) -> None:
        text, first = statement.text, " ".join(statement.first)
        if TRANSACTIONS.intersection(statement.first[:1]) or SKIPPED.match(first):
            return
        if file := FROM_FILE.search(text):
            data = DATA / f"{file[1].lower()}.sql"
            if data.exists():
                await self.conn.execute(data.read_bytes())
        elif first.startswith("copy") and FROM_STDIN.search(text):
            async with self.conn.cursor().copy(text.encode()) as copy:
                assert script
                await copy.write(script.copy_data())
        else:
            cursor = await self.conn.execute(text.encode())
            await self._results(cursor, statement)

    async def _results(
        self, cursor: psycopg.AsyncCursor[Any], statement: Statement
    ) -> None:
        result = cursor.pgresult
        if statement.end not in ("gset", "gexec") or not cursor.description:
            return
        assert result
        cells = {
            (row, column): (result.get_value(row, column) or b"").decode()
            for row in range(result.ntuples)
            for column in range(result.nfields)
        }
        if statement.end == "gexec":
            for cell in cells.values():
                for one in Script(f"{cell};"):
                    await self.run(self.filled(one))
        elif result.ntuples == 1:
            for n, column in enumerate(cursor.description):
                self.variables[statement.argument + column.name] = cells[0, n]

    async def _command(self, statement: Statement, script: Script | None) -> bool:
        argument = statement.argument
        match statement.end:
            case "set":
                name, _, value = argument.partition(" ")
                values = re.findall(
                    r"'((?:[^']|'')*)'|(\S+)", VARIABLE.sub(self._value, value)
                )
                self.variables[name] = "".join(
                    quoted.replace("''", "'") or plain for quoted, plain in values
                )
            case "c":  # connect as another role, or as the first one again
                user = argument.split()[1:2]
                await self.conn.execute("reset session authorization")
                if user and user != ["-"]:
                    await self.conn.execute(
                        sql.SQL("set session authorization {}").format(
                            sql.Identifier(*user)
                        )
                    )
            case "copy" if script and FROM_STDIN.search(argument):
                script.copy_data()
            case "if" if self.variables.get(argument[1:]) == "t":
                return argument != ":skip_test"
        return True

    def _value(self, reference: re.Match[str]) -> str:
        quote, name = reference.groups()
        if (value := self.variables.get(name)) is None:
            return reference[0]
        return f"{quote}{value.replace(quote, quote * 2)}{quote}" if quote else value


async def connect(url: str) -> psycopg.AsyncConnection[Any]:
    conn = await psycopg.AsyncConnection.connect(
        url, autocommit=True, prepare_threshold=None, client_encoding="UTF8"
    )
    await conn.execute("set client_min_messages = error")
    return conn
