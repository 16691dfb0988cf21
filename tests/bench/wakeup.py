"""How soon an idle worker has claimed what was submitted, in ours and the peers.

From the commit of the submission to the commit of the claim, both by the
server's own clock: a trigger, the same for all, notes the transactions, and
track_commit_timestamp when each of them committed.
"""

import asyncio
import statistics
from contextlib import AsyncExitStack
from pathlib import Path

import click

from .common import Server, Table, options, percentile, report, run_server
from .queues import Ours, PgQueuer, Procrastinate, Queue

PAUSE = 0.05  # seconds in which a worker becomes idle

NOTE = """
create table moments (job text, status text, xid xid);
create function note_moment() returns trigger language plpgsql as $$
begin
    insert into moments values (new.id, new.status, pg_current_xact_id()::xid);
    return null;
end
$$;
create trigger note after insert or update of status on {jobs}
for each row execute function note_moment();
"""

LATENCIES = """
select extract(epoch from
    pg_xact_commit_timestamp(claimed.xid) - pg_xact_commit_timestamp(submitted.xid)
)::float8 * 1000
from moments as submitted join moments as claimed using (job)
where submitted.status = %s and claimed.status = %s
"""


@click.command()
@click.option("--samples", default=300, show_default=True, help="of each queue")
@options
def main(samples: int, version: int | None, to: Path | None) -> None:
    """Measure the wake-up of idle workers, in turn with those of the peers."""
    with run_server(version, track_commit_timestamp="on") as server:
        table = Table(
            f"from submitted to claimed, idle workers, {samples} samples of each",
            ("queue", "p50 ms", "p99 ms", "max ms"),
            plot="p50 ms",
        )
        for queue, latencies in asyncio.run(sample(server, samples)).items():
            p50, p99 = statistics.median(latencies), percentile(latencies, 99)
            table.add(queue, p50, p99, max(latencies), ours=queue == Ours.name)
        report("wakeup", [table], to, server)


async def sample(server: Server, samples: int) -> dict[str, list[float]]:
    """Return the latencies of each queue, in milliseconds."""
    async with AsyncExitStack() as stack:
        queues: list[Queue] = []
        for kind in (Ours, Procrastinate, PgQueuer):
            queue = await stack.enter_async_context(kind(server))
            await queue.work()
            await queue.conn.execute(NOTE.format(jobs=queue.jobs).encode())
            queues.append(queue)
        for _ in range(samples):
            for queue in queues:
                await asyncio.sleep(PAUSE)
                await queue.submit(1)
                await queue.until_done()
        return {queue.name: await latencies(queue) for queue in queues}


async def latencies(queue: Queue) -> list[float]:
    cursor = await queue.conn.execute(LATENCIES, [queue.waiting, queue.running])
    return [row[0] for row in await cursor.fetchall()]
