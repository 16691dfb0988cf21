"""The job that does nothing.

procrastinate's own command loads `app`.  pgqueuer's does not start with every
typer that it admits (1.6, "'str' object has no attribute 'name'"): run as a
module, this one does the same, on uvloop as well.
"""

import os

import asyncpg
import uvloop
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer
from procrastinate import App, PsycopgConnector

from .common import connection_arguments

CONCURRENCY = 20
NAME = "noop"


def procrastinate_app(conninfo: str) -> App:
    app = App(connector=PsycopgConnector(conninfo=conninfo, max_size=CONCURRENCY))

    @app.task(name=NAME)
    async def noop() -> None:
        pass

    return app


async def work_for_pgqueuer(conninfo: str) -> None:
    pool = await asyncpg.create_pool(
        **connection_arguments(conninfo), max_size=CONCURRENCY
    )
    async with pool:
        worker = PgQueuer(AsyncpgPoolDriver(pool))

        @worker.entrypoint(NAME)
        async def noop(job: Job) -> None:
            pass

        await worker.run(max_concurrent_tasks=CONCURRENCY)


app = procrastinate_app(os.environ.get("DATABASE_URL", ""))

if __name__ == "__main__":
    uvloop.run(work_for_pgqueuer(os.environ["DATABASE_URL"]))
