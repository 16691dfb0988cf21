"""Fair turns: how long others wait for a backlog, its shares, and what a claim costs."""

import asyncio
import statistics
import time
from pathlib import Path

import click
import psycopg
from psycopg import IsolationLevel

from .backlog import CLAIMS
from .backlog import SETTINGS as WITHOUT_DISK
from .backlog import History, timed
from .common import Server, Table, options, percentile, report, run_server
from .queues import Ours

BUSY = "ann"  # the requester with the backlog
OTHERS = ("bob", "carol", "dave")
NAP = 0.02  # seconds that each export takes at least
LOW = 2  # exports that may run at once, of each other requester
WEIGHTS = {"ann": 1, "bob": 1, "carol": 2}


@click.command()
@click.option("--requesters", default=1_000, show_default=True)
@click.option("--pending", default=200_000, show_default=True, help="of all together")
@click.option("--done", default=20_000, show_default=True, help="under the snapshot")
@click.option("--backlog", default=10_000, show_default=True, help="of one requester")
@click.option("--seconds", default=20, show_default=True, help="of submits by others")
@options
def main(
    requesters: int,
    pending: int,
    done: int,
    backlog: int,
    seconds: int,
    version: int | None,
    to: Path | None,
) -> None:
    """Measure what turns promise, and what they cost."""
    with run_server(version, **WITHOUT_DISK) as server:
        claims = asyncio.run(claim(server, requesters, pending, done))
    with run_server(version) as server:
        waits = Table(
            f"exports of {NAP * 1e3:g} ms, while {BUSY} has {backlog:,} pending",
            ("slots, requester", "exports", "wait p50 ms", "p99 ms", "most ms"),
        )
        for slots in (1, 2, 8):
            asyncio.run(wait(server, slots, backlog, seconds, waits))
        shares = asyncio.run(share(server))
        report("turns", [claims, waits, shares], to, server)


async def claim(server: Server, requesters: int, pending: int, done: int) -> Table:
    """Claim and complete, beside a held snapshot; half of the requesters are capped."""
    table = Table(
        f"a claim, with {requesters:,} requesters and {pending:,} pending exports;"
        f" every other requester runs {LOW}, and may run no more",
        ("done under a snapshot", "p50 ms", "p99 ms", "of the first", "submit p50 ms"),
    )
    async with Ours(server, database="claims") as queue:
        await queue.fill(pending)
        await queue.conn.execute("set session_replication_role = replica")
        await queue.conn.execute(
            "with placed as ("
            " select id, row_number() over (order by turn) - 1 as n from exports)"
            " update exports set requested_by = 'r' || n %% %s,"
            " turn = (n / %s + 1) * 1000000"
            " from placed where placed.id = exports.id",
            [requesters, requesters],
        )
        await queue.conn.execute("reset session_replication_role")
        await queue.conn.execute(
            "insert into requesters (name, max_running) select 'r' || n,"
            " case when n %% 2 = 0 then %s::integer end"
            " from generate_series(0, %s) as n",
            [LOW, requesters - 1],
        )
        await queue.conn.execute(
            "update exports set status = 'processing', transition = 'claim', attempt = 1,"
            " worker = 'w', lease_expires_at = now() + interval '1 day',"
            " started_at = now() where waits_for = 'worker' and requested_by in"
            " (select name from requesters where max_running is not null)"
        )
        await queue.conn.execute("vacuum analyze exports, requesters")
        fresh = History(queue, 600)
        await fresh.go_on(CLAIMS)
        figures = fresh.figures(fresh.p50)
        table.add("fresh", *figures, await submit(queue), ours=True)
        async with await psycopg.AsyncConnection.connect(queue.database) as old:
            await old.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            await old.execute("select from exports limit 1")
            history = History(queue, 600)
            for milestone in (done // 10, done // 2, done):
                await history.go_on(milestone)
                figures = history.figures(fresh.p50)
                title = f"{history.done:,}"
                table.add(title, *figures, await submit(queue), ours=True)
    return table


async def submit(queue: Ours) -> float:
    """Return the p50, in milliseconds, of submits by a requester with a backlog."""
    took = []
    for n in range(30):
        statement = "insert into exports (query) values ('select 1')"
        async with queue.conn.transaction():
            await queue.conn.execute(f"set local exports.requester to 'r{n}'".encode())
            took.append((await timed(queue.conn.execute(statement)))[1])
    return statistics.median(took) * 1e3


async def wait(
    server: Server, slots: int, backlog: int, seconds: int, table: Table
) -> None:
    """Add rows to *table*: how long exports waited from their submit to their start."""
    async with Ours(server, slots=slots, database=f"waits_{slots}") as queue:
        await fill(queue, {BUSY: backlog})
        with queue.worker():
            while not await started(queue):
                await asyncio.sleep(0.1)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for requester in OTHERS:
                    await nap(queue, requester)
                await asyncio.sleep(1)
        for requester in (BUSY, *OTHERS):
            cursor = await queue.conn.execute(
                "select extract(epoch from started_at - created_at)::float8 * 1000"
                " from exports where requested_by = %s and started_at is not null",
                [requester],
            )
            waited = [ms for (ms,) in await cursor.fetchall()]
            if requester != BUSY:
                p50, p99 = statistics.median(waited), percentile(waited, 99)
                table.add(f"{slots}, {requester}", len(waited), p50, p99, max(waited))
            else:
                table.add(f"{slots}, {requester}", len(waited), None, None, None)


async def share(server: Server) -> Table:
    """Let three requesters with backlogs compete for two slots."""
    table = Table(
        "shares of those with a backlog", ("requester, weight", "exports", "of all")
    )
    async with Ours(server, slots=2, database="shares") as queue:
        for requester, weight in WEIGHTS.items():
            await queue.conn.execute(
                "insert into requesters (name, weight) values (%s, %s)",
                [requester, weight],
            )
        await fill(queue, dict.fromkeys(WEIGHTS, 1_000))
        with queue.worker():
            while await started(queue) < 800:
                await asyncio.sleep(0.1)
        total = await started(queue)
        for requester, weight in WEIGHTS.items():
            count = await started(queue, requester)
            table.add(f"{requester}, {weight}", count, count / total)
    return table


async def fill(queue: Ours, counts: dict[str, int]) -> None:
    """Submit, without planning each SELECT: the pause of an export is its query."""
    await queue.fill(sum(counts.values()))
    await queue.conn.execute("set session_replication_role = replica")
    for requester, count in counts.items():
        await queue.conn.execute(
            "with placed as (select id, row_number() over (order by turn) as n"
            " from exports where query = 'select 1' limit %s)"
            " update exports set requested_by = %s, query = %s, sql_text = %s,"
            " turn = n * 1000000 / (select coalesce(max(weight), 1) from requesters"
            " where name = %s)"
            " from placed where placed.id = exports.id",
            [count, requester, SLEEP, SLEEP, requester],
        )
    await queue.conn.execute("reset session_replication_role")


async def nap(queue: Ours, requester: str) -> None:
    async with queue.conn.transaction():
        await queue.conn.execute(
            "select set_config('exports.requester', %s, true)", [requester]
        )
        await queue.conn.execute("insert into exports (query) values (%s)", [SLEEP])


async def started(queue: Ours, requester: str | None = None) -> int:
    cursor = await queue.conn.execute(
        "select count(*) from exports where started_at is not null"
        " and requested_by = coalesce(%s, requested_by)",
        [requester],
    )
    ((count,),) = await cursor.fetchall()
    return int(count)


SLEEP = f"select pg_sleep({NAP})::text as slept"
