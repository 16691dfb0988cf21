"""Run statements with psql and with the service, and compare the results.

psql runs `COPY (…) TO STDOUT` as csv_reader, in the same kind of transaction as the
service.  The service gets the same statement through its HTTP interface, and its
worker writes the file.  The result of psql is the correct one.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from service import app
from service.config import Settings
from service.postgres import embedded

SLOTS = 4
AT_ONCE = 12  # concurrent requests
TIMED_OUT = "57014"  # cancelled by statement_timeout, which is short here
OTHER_ORDER = "the same rows in another order"
PATIENCE = 60.0  # seconds for the exports of one batch
# The settings that the documentation promises for every export's session.
SESSION = {"timezone": "UTC", "synchronize_seqscans": "off"}
ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)
BEGIN = "begin transaction isolation level repeatable read read only;\n"


class Kind(StrEnum):
    """The result of the comparison; those in `FAULTS` are faults of the service."""

    EQUAL = "equal"
    INHERENT = "different, but inherently"
    REFUSED = "refused by both"
    DIFFERENT = "different bytes"
    REFUSED_ALONE = "refused by the service alone"
    FAILED_ALONE = "accepted, then failed by the service alone"
    TAKEN_ALONE = "exported, although psql refuses it"
    BROKEN = "no proper answer, or none in time"
    # For the same statement as JSON Lines, if both have the CSV file:
    LINES = "JSON Lines with the same rows"
    LINES_INHERENT = "JSON Lines different, but inherently"
    NOT_JSON = "a line that is no JSON"
    OTHER_ROWS = "JSON Lines with another number of rows"
    NO_LINES = "no JSON Lines, although there is a CSV file"


FAULTS = {
    Kind.DIFFERENT,
    Kind.REFUSED_ALONE,
    Kind.FAILED_ALONE,
    Kind.TAKEN_ALONE,
    Kind.BROKEN,
    Kind.NOT_JSON,
    Kind.OTHER_ROWS,
    Kind.NO_LINES,
}


@dataclass(frozen=True)
class Rule:
    """Statements that match *pattern* may have different results, for this *reason*."""

    pattern: re.Pattern[str]
    reason: str


def _rule(pattern: str, reason: str) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), reason)


# Rules are only used if the two differ.  Statements whose results differ between
# two runs of psql itself (random numbers, the clock, process ids) need no rule.
RULES = (
    _rule(
        r"txid_|pg_current_(xact|snapshot)|pg_snapshot|\bxm(in|ax)\b",
        "transaction ids go on",
    ),
    _rule(r"\blo_|pg_largeobject", "large objects were made by the run before"),
    _rule(r"pg_cursors", "the extended protocol has a portal of its own"),
    _rule(r"pg_locks", "the session's own locks are among them"),
    _rule(r"pg_stat_(get|all)_", "statistics count what the session did"),
    _rule(r"pg_notification_queue_usage", "the service notifies"),
)


@dataclass(frozen=True)
class Answer:
    """The bytes of a file, or why there is none; *late* if it failed after submit."""

    body: bytes | None = None
    rows: int | None = None
    sqlstate: str | None = None
    message: str = ""
    late: bool = False
    broken: bool = False

    @property
    def error(self) -> str:
        state = f"{self.sqlstate}: " if self.sqlstate else ""
        return f"{state}{self.message}".strip()


@dataclass(frozen=True)
class Outcome:
    """The outcome for a *statement* from *name*; *note* describes the difference."""

    kind: Kind
    statement: str
    note: str = ""
    name: str = ""

    @property
    def fault(self) -> bool:
        return self.kind in FAULTS


class Psql:
    """Run statements as csv_reader, those of each call by one process of psql."""

    def __init__(self, database: str, folder: Path) -> None:
        binaries = embedded.find_binaries()
        self._psql = binaries[max(binaries)] / "psql"
        self._folder = folder
        settings = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
        self._conninfo = make_conninfo(
            database, user="csv_reader", options=settings, client_encoding="UTF8"
        )

    async def run(self, statements: Sequence[str]) -> list[Answer]:
        answers: list[Answer] = []
        while len(answers) < len(statements):
            # There are fewer answers if a statement ends the connection.
            got = await self._run(statements[len(answers) :])
            answers += got or [Answer(sqlstate="08006", message="connection lost")]
        return answers

    async def _run(self, statements: Sequence[str]) -> list[Answer]:
        files = [self._folder / f"psql-{n}.csv" for n in range(len(statements))]
        script = "".join(
            f"{BEGIN}COPY (\n{statement}\n) TO STDOUT WITH (FORMAT csv, HEADER)\n"
            f"\\g {file}\n\\echo '\\x1e':SQLSTATE :LAST_ERROR_MESSAGE\nrollback;\n"
            for statement, file in zip(statements, files)
        )
        running = await asyncio.create_subprocess_exec(
            self._psql, "-XqAt", "-v", "VERBOSITY=terse", "-d", self._conninfo,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        told, _ = await running.communicate(script.encode())
        answers = []
        for line, file in zip(told.decode(errors="replace").split("\x1e")[1:], files):
            state, _, message = line.strip().partition(" ")
            if state == "00000":
                answers.append(Answer(file.read_bytes()))
            else:
                answers.append(Answer(sqlstate=state, message=message))
            file.unlink(missing_ok=True)
        return answers


@dataclass
class Service:
    """The service in this process: its API, its worker, and its exports."""

    http: aiohttp.ClientSession
    queue: psycopg.AsyncConnection[dict[str, Any]]
    exports_dir: Path
    _limit: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(AT_ONCE)
    )

    async def run(self, statements: Sequence[str], **request: Any) -> list[Answer]:
        """Export the statements concurrently, each with the options in *request*."""
        requests = [{"query": one, "maxAttempts": 1, **request} for one in statements]
        answers = await asyncio.gather(*map(self._submit, requests))
        pending = {one for one in answers if isinstance(one, str)}
        ended = await self._ended(pending)
        return [ended[one] if isinstance(one, str) else one for one in answers]

    async def _submit(self, request: dict[str, Any]) -> Answer | str:
        """Return the id of the new export, or the reason why there is none."""
        async with self._limit, self.http.post("/exports", json=request) as answer:
            told = await answer.json(content_type=None)
            if answer.status == 202:
                id: str = told["jobId"]
                return id
            return Answer(
                sqlstate=told.get("sqlstate"),
                message=f"{told['title']}: {told['detail']}",
                broken=answer.status >= 500,
            )

    async def _ended(self, ids: set[str]) -> dict[str, Answer]:
        answers: dict[str, Answer] = {}
        left = set(ids)
        try:
            async with asyncio.timeout(PATIENCE):
                while left:
                    cursor = await self.queue.execute(
                        "select * from exports where id = any(%s)"
                        " and status not in ('pending', 'processing')",
                        [list(left)],
                    )
                    async for row in cursor:
                        id = str(row["id"])
                        left.remove(id)
                        answers[id] = self._answer(row)
                    if left:
                        await asyncio.sleep(0.01)
        except TimeoutError:
            message = f"not ended within {PATIENCE:g} seconds"
            return answers | {id: Answer(message=message, broken=True) for id in left}
        return answers

    def _answer(self, row: dict[str, Any]) -> Answer:
        if row["status"] == "completed":
            path = self.exports_dir / row["file_path"]
            body = path.read_bytes()
            path.unlink()
            return Answer(body, row["rows"])
        error = row["error"] or {"message": f"it is {row['status']}"}
        return Answer(
            sqlstate=error.get("sqlstate"), message=error["message"], late=True
        )


@asynccontextmanager
async def serving(database: str, exports_dir: Path) -> AsyncIterator[Service]:
    """Run the service on *database* while the block lasts."""
    settings = Settings(
        database_url=database,
        exports_dir=exports_dir,
        port=0,
        worker_slots=SLOTS,
        lanes=1,
        poll_interval=600,
        drain_timeout=0,
    )
    async with (
        app.running(settings, database, serve=True, work=True) as url,
        aiohttp.ClientSession(url) as http,
        await psycopg.AsyncConnection.connect(
            database, autocommit=True, row_factory=dict_row
        ) as queue,
    ):
        yield Service(http, queue, exports_dir)


async def compare(
    statements: Sequence[str], psql: Psql, service: Service
) -> tuple[list[Outcome], list[Answer]]:
    """Return the outcome of each statement, and psql's answers.

    If both have a CSV file, there is a second outcome, for JSON Lines.
    """
    measure, given = await asyncio.gather(
        psql.run(statements), service.run([f"{one};" for one in statements])
    )
    outcomes = [_judge(*them) for them in zip(statements, measure, given, strict=True)]
    exported = [n for n, answer in enumerate(given) if answer.body is not None]
    lines = await service.run([statements[n] for n in exported], format="jsonl")
    outcomes += [
        _judge_lines(statements[n], given[n], answer)
        for n, answer in zip(exported, lines, strict=True)
    ]
    return await _excuse(outcomes, dict(zip(statements, measure)), psql), measure


def _judge(statement: str, psql: Answer, service: Answer) -> Outcome:
    if service.broken:
        return Outcome(Kind.BROKEN, statement, service.error)
    if TIMED_OUT in (psql.sqlstate, service.sqlstate):
        return Outcome(Kind.INHERENT, statement, "it takes too long")
    if psql.body is None:
        if service.body is None:
            return Outcome(Kind.REFUSED, statement, psql.error)
        return Outcome(Kind.TAKEN_ALONE, statement, psql.error)
    if service.body is None and service.message.endswith("at least one column"):
        return Outcome(Kind.INHERENT, statement, "a file has at least one column")
    if service.body is None:
        kind = Kind.FAILED_ALONE if service.late else Kind.REFUSED_ALONE
        return Outcome(kind, statement, service.error)
    if service.body != psql.body:
        return Outcome(Kind.DIFFERENT, statement, _difference(psql.body, service.body))
    return Outcome(Kind.EQUAL, statement)


def _judge_lines(statement: str, csv: Answer, lines: Answer) -> Outcome:
    if lines.broken:
        return Outcome(Kind.BROKEN, statement, lines.error)
    if lines.sqlstate == TIMED_OUT:
        return Outcome(Kind.LINES_INHERENT, statement, "it takes too long")
    if lines.body is None:
        return Outcome(Kind.NO_LINES, statement, lines.error)
    records = lines.body.split(b"\n")
    if records.pop() != b"":
        return Outcome(Kind.NOT_JSON, statement, "the last line does not end")
    for record in records:
        try:
            if not isinstance(json.loads(record), dict):
                return Outcome(Kind.NOT_JSON, statement, f"no object: {record!r:.100}")
        except (ValueError, RecursionError) as error:
            return Outcome(Kind.NOT_JSON, statement, f"{error}: {record!r:.100}")
    if not len(records) == lines.rows == csv.rows:
        note = f"{len(records)} lines, {lines.rows} counted, {csv.rows} in the CSV file"
        return Outcome(Kind.OTHER_ROWS, statement, note)
    return Outcome(Kind.LINES, statement)


async def _excuse(
    outcomes: list[Outcome], before: dict[str, Answer], psql: Psql
) -> list[Outcome]:
    """Mark differences as inherent if a rule matches, or if psql differs from itself."""
    doubtful = [one.statement for one in outcomes if one.fault]
    again = dict(zip(doubtful, await psql.run(doubtful)))
    excused = []
    for outcome in outcomes:
        if outcome.fault:
            inherent = Kind.INHERENT
            if outcome.kind in (Kind.NOT_JSON, Kind.OTHER_ROWS, Kind.NO_LINES):
                inherent = Kind.LINES_INHERENT
            reason = next(
                (
                    rule.reason
                    for rule in RULES
                    if rule.pattern.search(outcome.statement)
                ),
                None,
            )
            if before[outcome.statement].body != again[outcome.statement].body:
                reason = "psql differs from itself"
            if outcome.note == OTHER_ORDER and not ORDERED.search(outcome.statement):
                reason = "no order is asked for"
            if reason and outcome.kind is not Kind.BROKEN:
                outcome = Outcome(inherent, outcome.statement, reason)
        excused.append(outcome)
    return excused


def _difference(psql: bytes, service: bytes) -> str:
    """Return the first line in which they differ, as text."""
    ours, theirs = service.splitlines(), psql.splitlines()
    if sorted(ours) == sorted(theirs):
        return OTHER_ORDER
    for theirs_line, line in zip(theirs, ours):
        if line != theirs_line:
            return f"psql: {theirs_line!r:.100}, the service: {line!r:.100}"
    return f"psql: {len(theirs)} lines, the service: {len(ours)}"
