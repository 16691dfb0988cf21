"""`python -m tests.chaos`: run real processes under a plan of faults, then check.

The seed alone determines the plan.  In the end, every export must have a file with
the bytes that psql copies, or the reason why not; see `tests.crash.world.invariants`.
"""

import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import click
import psycopg
from rich.console import Console
from rich.progress import Progress

from service.postgres import connections, embedded, schema

from .crash.world import World, eventually
from .processes import Process
from .servers import either, follow, promote, wait_for_standby

WORKERS = 3
USERS = 20_000
EVERY = 0.4  # seconds between two steps of the plan
SETTINGS = {"lease": 2, "heartbeat": 0.3, "poll_interval": 1, "retention": 3600}

QUERIES = (
    "select * from users order by id",
    "select id, email, bio from users where id % 7 = 0 order by id",
    "select * from users where false",
    "select n, md5(n::text) from generate_series(1, 200000) as n",
    "select n, pg_sleep(0.005)::text as nap from generate_series(1, 400) as n",
    "select 1 as n",
    "select 10 / (n - 3000) as x from generate_series(1, 5000) as n",  # fails
)
# Who asks, and how many of their exports may run at once.
LIMITS = {"ann": 1, "bob": 2, "carol": None}
FAULTS = {
    "kill": 5,
    "pause": 3,
    "restart": 2,  # of a worker, by SIGTERM
    "terminate": 8,  # a backend
    "cancel": 6,
    "server": 1,
    "read_only": 1,  # for a while
    "failover": 0.3,  # to the standby; then there is a new one
    "hostile": 3,  # an export that tries to do harm
}
READ_ONLY = 2.0  # seconds
# Their results are the same whenever they run.
HOSTILE = (
    "select count(pg_terminate_backend(pid)) >= 0 as x from pg_stat_activity"
    " where usename = 'csv_reader' and pid <> pg_backend_pid()",
    "select count(pg_cancel_backend(pid)) >= 0 as x from pg_stat_activity"
    " where usename = 'csv_reader' and pid <> pg_backend_pid()",
    "select set_config('application_name', 'export ' || gen_random_uuid() || ' zz ff',"
    " false) is null as x",
    "select repeat('x', 5000000) as x from generate_series(1, 3)",
    "select pg_advisory_lock(6517622)::text as x",
)

REFUSALS = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)


@dataclass(frozen=True)
class Step:
    """Some submits and a fault after *at* seconds; *pick* selects what the fault hits."""

    at: float
    requester: str
    queries: tuple[str, ...]
    fault: str
    pick: int


def plan(seed: int, seconds: float) -> Iterator[Step]:
    """Derive the steps from *seed*; a longer plan begins like a shorter one."""
    chance = random.Random(seed)
    at = 0.0
    while at < seconds:
        yield Step(
            at,
            chance.choice(list(LIMITS)),
            tuple(chance.choices(QUERIES, k=chance.randint(0, 4))),
            chance.choices(list(FAULTS), list(FAULTS.values()))[0],
            chance.randrange(1 << 30),
        )
        at += EVERY


class Chaos:
    """A server with a standby, some workers, and the faults that they suffer."""

    def __init__(self, postgres: embedded.Postgres, folder: Path, world: World) -> None:
        self._postgres = postgres
        self._standby = self._follow(folder)
        self._world = world
        self._read_only_until: float | None = None
        self._workers = [self._worker() for _ in range(WORKERS)]
        self._paused: list[tuple[float, Process]] = []
        self.faults: Counter[str] = Counter()

    def _worker(self) -> Process:
        """Start a worker once the database can be written to; else it would end at once."""
        while self._read_only_until is not None:
            self._write_again()
        return self._world.start(**SETTINGS)

    def _follow(self, folder: Path) -> embedded.Postgres:
        standby = follow(self._postgres, folder)
        standby.start()
        wait_for_standby(self._postgres)
        return standby

    def stop(self) -> None:
        """Stop both servers."""
        self._postgres.stop(signal.SIGQUIT)
        self._standby.stop(signal.SIGQUIT)

    def take(self, step: Step, now: float) -> None:
        """Carry out the step; a server that is just restarting may refuse it."""
        if self._read_only_until is not None and now >= self._read_only_until:
            self._write_again()
        for due, process in [*self._paused]:
            if now >= due:
                process.signal(signal.SIGCONT)
                self._paused.remove((due, process))
        with suppress(*REFUSALS):
            if step.queries:
                self._world.submit_for(step.requester, *step.queries)
        with suppress(*REFUSALS):
            if getattr(self, f"_{step.fault}")(step.pick, now) is not False:
                self.faults[step.fault] += 1

    def _kill(self, pick: int, now: float) -> None:
        place = pick % WORKERS
        self._forget(self._workers[place])
        self._workers[place].kill()
        self._workers[place] = self._worker()

    def _restart(self, pick: int, now: float) -> None:
        place = pick % WORKERS
        self._forget(self._workers[place])
        self._workers[place].signal(signal.SIGTERM)
        self._workers[place].signal(signal.SIGCONT)
        self._workers[place].end()
        self._workers[place] = self._worker()

    def _pause(self, pick: int, now: float) -> None:
        victim = self._workers[pick % WORKERS]
        self._forget(victim)
        victim.signal(signal.SIGSTOP)
        self._paused.append((now + 1.5 * SETTINGS["lease"], victim))

    def _forget(self, process: Process) -> None:
        self._paused = [one for one in self._paused if one[1] is not process]

    def _terminate(self, pick: int, now: float) -> bool:
        backends = self._world.rows(
            "select pid from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() order by application_name, pid"
        )
        for backend in backends[pick % len(backends) :][:1] if backends else []:
            self._world.rows("select pg_terminate_backend(%s)", backend["pid"])
        return bool(backends)

    def _cancel(self, pick: int, now: float) -> bool:
        found = self._world.rows(
            "select id from exports where status in ('pending', 'processing')"
            " order by created_at"
        )
        if found:
            id = found[pick % len(found)]["id"]
            self._world.rows("select cancel_export(%s)", id)
        return bool(found)

    def _server(self, pick: int, now: float) -> None:
        self._postgres.stop(signal.SIGQUIT if pick % 2 else signal.SIGINT)
        self._postgres.start()

    def _failover(self, pick: int, now: float) -> None:
        folder = self._postgres.data_dir
        self._postgres.stop(signal.SIGKILL)
        promote(self._standby)
        self._postgres = self._standby
        self._standby = self._follow(folder)

    def _read_only(self, pick: int, now: float) -> None:
        self._as_administrator(
            "alter database chaos set default_transaction_read_only = on"
        )
        self._read_only_until = now + READ_ONLY
        # Sessions that are already connected would go on writing.
        self._as_administrator(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = 'chaos'"
        )

    def _write_again(self) -> None:
        with suppress(psycopg.OperationalError):
            self._as_administrator(
                "alter database chaos reset default_transaction_read_only"
            )
            self._read_only_until = None

    def _as_administrator(self, statement: LiteralString) -> None:
        with psycopg.connect(self._postgres.conninfo, autocommit=True) as conn:
            conn.execute(statement)

    def _hostile(self, pick: int, now: float) -> None:
        self._world.submit(HOSTILE[pick % len(HOSTILE)])

    def relent(self) -> None:
        while self._read_only_until is not None:
            self._write_again()
        for _, process in self._paused:
            process.signal(signal.SIGCONT)
        for process in self._workers:
            assert process.running(), f"a worker ended by itself:\n{process.log}"


def run(seed: int, seconds: float, console: Console) -> dict[str, Any]:
    """Carry out the plan; return the figures, or raise `AssertionError`."""
    with tempfile.TemporaryDirectory(prefix="csv-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        exports_dir = folder / "exports"
        exports_dir.mkdir()
        folders = [folder / "one", folder / "other"]
        postgres = embedded.Postgres(folders[0], settings={"fsync": "off"})
        with ExitStack() as stack:
            server = stack.enter_context(postgres)
            with psycopg.connect(server, autocommit=True) as conn:
                conn.execute("create database chaos")
            database = connections.primary(either(folders, "chaos"))
            schema.migrate(database)
            schema.seed(database, USERS)
            world = stack.enter_context(World(database, exports_dir))
            for requester, most in LIMITS.items():
                world.limit(requester, most)
            chaos = Chaos(postgres, folders[1], world)
            stack.callback(chaos.stop)
            return _live(seed, seconds, console, chaos, world)


def _live(
    seed: int, seconds: float, console: Console, chaos: Chaos, world: World
) -> dict[str, Any]:
    began = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("chaos", total=seconds)
        for step in plan(seed, seconds):
            now = time.monotonic() - began
            time.sleep(max(0, step.at - now))  # keep to the times of the plan
            chaos.take(step, max(step.at, now))
            progress.update(task, completed=step.at)
        chaos.relent()
        progress.update(task, description="settling", total=None)
        settling = time.monotonic()
        world.settle()
        settled = time.monotonic() - settling
        progress.update(task, description="checking")
        world.check()
        eventually(
            lambda: not world.rows("select from pg_stat_progress_copy"), "COPYs to end"
        )
    attempts = world.rows(
        "select one ->> 'outcome' as outcome, count(*)"
        " from exports, jsonb_array_elements(history) as one group by 1 order by 1"
    )
    return {
        **{f"exports {status}": n for status, n in sorted(world.statuses().items())},
        **{f"attempts {row['outcome']}": row["count"] for row in attempts},
        **{f"fault {fault}": n for fault, n in sorted(chaos.faults.items())},
        "seconds to settle": round(settled, 1),
    }


@click.command()
@click.option("--seconds", default=60.0, envvar="SECONDS", show_default=True)
@click.option("--seed", type=int, envvar="SEED", help="replay that plan")
def main(seconds: float, seed: int | None) -> None:
    """Kill, pause, terminate, restart, fail over and cancel; then check everything."""
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    click.echo(f"SEED={seed} SECONDS={seconds:g}")
    try:
        figures = run(seed, seconds, Console(stderr=True))
    except AssertionError as error:
        raise click.ClickException(f"violated, with SEED={seed}: {error}") from error
    for name, figure in figures.items():
        click.echo(f"{name:24} {figure:>8}")
    click.echo("every invariant holds")


if __name__ == "__main__":
    main()
