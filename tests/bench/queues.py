"""Our queue and its peers behind one interface, each through its own Python API."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, ClassVar, Self
from uuid import uuid4

import asyncpg
import psycopg
from pgqueuer import Queries
from pgqueuer.queries import EntrypointExecutionParameter
from procrastinate.jobs import Status

from service.model import PRIORITIES, Export, Receipt
from service.postgres import schema
from service.postgres.pool import open_pool
from service.queue.calls import Queue as Exports

from ..processes import Process
from .common import Server, connection_arguments
from .noop import CONCURRENCY, NAME, procrastinate_app

LEASE = 3600.0  # seconds
RECEIPT = Receipt(rows=1, bytes=1, sha256="a" * 64, columns=[], snapshot_at=None)
CHUNK = 10_000  # jobs submitted by one statement
LOOK_EVERY = 0.01  # seconds


class Queue(ABC):
    """A queue in a database of its own, while the `async with` block lasts."""

    name: ClassVar[str]
    jobs: ClassVar[str]  # the table
    waiting: ClassVar[str]  # the status after submit
    running: ClassVar[str]  # and after fetch

    def __init__(self, server: Server, *, database: str | None = None) -> None:
        self.database = server.database(database or self.name, migrate=False)
        self._exports_dir = server.folder / "exports"
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.conn = await self._stack.enter_async_context(
            await psycopg.AsyncConnection.connect(self.database, autocommit=True)
        )
        await self.install()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @abstractmethod
    async def install(self) -> None:
        """Make its schema, and connect as its clients do."""

    @abstractmethod
    async def submit(self, count: int) -> None:
        """Submit *count* jobs that do nothing, in one transaction."""

    @abstractmethod
    async def fetch(self) -> Any:
        """Take one job, as a worker would."""

    @abstractmethod
    async def beat(self, job: Any) -> None:
        """Write a heartbeat."""

    @abstractmethod
    async def finish(self, job: Any) -> None:
        """Say that the job is done."""

    @abstractmethod
    def worker(self) -> Process:
        """Start a worker by its own command."""

    async def work(self) -> None:
        """Have a worker until the end of the block; return when it has done a job."""
        self._worker = self._stack.enter_context(self.worker())
        await self.submit(1)
        await self.until_done()

    async def fill(self, count: int) -> None:
        """Submit *count* jobs in several transactions."""
        for start in range(0, count, CHUNK):
            await self.submit(min(CHUNK, count - start))
        await self.conn.execute(f"vacuum analyze {self.jobs}")

    async def until_done(self) -> None:
        """Return when the worker has done every job."""
        unfinished = f"select from {self.jobs} where status in (%s, %s) limit 1"
        statuses = [self.waiting, self.running]
        while True:
            await asyncio.sleep(LOOK_EVERY)
            cursor = await self.conn.execute(unfinished, statuses)
            if not cursor.rowcount:
                return
            assert self._worker.running(), self._worker.log


class Ours(Queue):
    name = "ours"
    jobs = "exports"
    waiting = "pending"
    running = "processing"

    def __init__(
        self, server: Server, *, slots: int = 2, database: str | None = None
    ) -> None:
        super().__init__(server, database=database)
        self._slots = slots
        # what a worker remembers, by priority: see Worker
        self._floors: list[int | None] = [None] * PRIORITIES

    async def install(self) -> None:
        schema.migrate(self.database)
        pool = open_pool(self.database, 1)
        self._queue = Exports(await self._stack.enter_async_context(pool))

    async def submit(self, count: int) -> None:
        await self.conn.execute(
            "insert into exports (query) select 'select 1' from generate_series(1, %s)",
            [count],
        )

    async def fill(self, count: int) -> None:
        """Without planning each one's SELECT, which takes its time."""
        await self.conn.execute("alter table exports disable trigger submit")
        await self.conn.execute(
            "insert into exports (query, sql_text, delimiter, header, null_text,"
            " quote_all, line_ending, bom, formula_guard, decimal_comma, digits_as_text,"
            " priority, waits_for, turn)"
            " select 'select 1', 'select 1', ',', true, '', false, 'lf', false, false, false,"
            " false, 5, 'worker', n::bigint * 1000000 +"
            " (select coalesce(max(turn), 0) from exports)"
            " from generate_series(1, %s) as n",
            [count],
        )
        await self.conn.execute("alter table exports enable trigger submit")
        await self.conn.execute("vacuum analyze exports")

    async def refill(self, count: int) -> None:
        """Have *count* pending exports, and no others."""
        await self.conn.execute("delete from exports where status <> 'pending'")
        cursor = await self.conn.execute("select count(*) from exports")
        ((pending,),) = await cursor.fetchall()
        await self.fill(count - pending)

    async def fetch(self, *, everywhere: bool = False) -> Export:
        """Claim from the floors upward, or *everywhere*, as a worker does now and then."""
        floors = None if everywhere else self._floors
        (export,) = await self._queue.claim("bench", LEASE, floors)
        self._floors[export.priority] = export.turn
        return export

    async def beat(self, job: Export) -> None:
        await self._queue.heartbeat(job, LEASE, 1, 1)

    async def finish(self, job: Export) -> None:
        await self._queue.complete(job, RECEIPT)

    def worker(self) -> Process:
        slots = str(self._slots)
        return Process(self.database, self._exports_dir, "worker", "--slots", slots)


class Procrastinate(Queue):
    name = "procrastinate"
    jobs = "procrastinate_jobs"
    waiting = "todo"
    running = "doing"

    async def install(self) -> None:
        app = procrastinate_app(self.database)
        await self._stack.enter_async_context(app.open_async())
        await app.schema_manager.apply_schema_async()
        self._task = app.tasks[NAME]
        self._manager = app.job_manager
        self._worker_id = await self._manager.register_worker()

    async def submit(self, count: int) -> None:
        await self._task.batch_defer_async(*[{}] * count)

    async def fetch(self) -> Any:
        job = await self._manager.fetch_job(queues=None, worker_id=self._worker_id)
        assert job
        return job

    async def beat(self, job: Any) -> None:
        """Its heartbeats are the worker's, not the job's."""
        await self._manager.update_heartbeat(self._worker_id)

    async def finish(self, job: Any) -> None:
        await self._manager.finish_job(job, Status.SUCCEEDED, delete_job=False)

    def worker(self) -> Process:
        return Process(
            self.database,
            self._exports_dir,
            *("--app", "tests.bench.noop.app"),
            *("worker", "--concurrency", str(CONCURRENCY)),
            module="procrastinate",
        )


class PgQueuer(Queue):
    name = "pgqueuer"
    jobs = "pgqueuer"
    waiting = "queued"
    running = "picked"

    async def install(self) -> None:
        conn = await asyncpg.connect(**connection_arguments(self.database))
        self._stack.push_async_callback(conn.close)
        self._queries = Queries.from_asyncpg_connection(conn)
        await self._queries.install()
        self._manager_id = uuid4()

    async def submit(self, count: int) -> None:
        await self._queries.enqueue([NAME] * count, [None] * count, [0] * count)

    async def fetch(self) -> Any:
        (job,) = await self._queries.dequeue(
            batch_size=1,
            entrypoints={NAME: EntrypointExecutionParameter(concurrency_limit=0)},
            queue_manager_id=self._manager_id,
            global_concurrency_limit=None,
            heartbeat_timeout=timedelta(seconds=LEASE),
        )
        return job

    async def beat(self, job: Any) -> None:
        await self._queries.update_heartbeat([job.id])

    async def finish(self, job: Any) -> None:
        await self._queries.log_jobs([(job, "successful", None)])

    def worker(self) -> Process:
        return Process(self.database, self._exports_dir, module="tests.bench.noop")
