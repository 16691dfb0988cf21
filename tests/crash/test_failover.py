"""The primary dies and a standby is promoted, three times, back and forth."""

import json
import signal
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.postgres import connections, schema
from service.postgres.embedded import Postgres

from ..servers import either, follow, promote, wait_for_standby
from .world import LARGE, SLOW, World

pytestmark = pytest.mark.newest

PATIENCE = 60.0  # seconds


def test_failovers_lose_nothing(scratch: Path, tmp_path: Path) -> None:
    """We restart nothing, and each export completes with the bytes of psql."""
    exports_dir = tmp_path / "exports"
    exports_dir.mkdir()
    folders = [scratch / "one", scratch / "other"]
    primary = Postgres(folders[0], settings={"full_page_writes": "off"})
    with ExitStack() as stack:
        stack.enter_context(primary)
        schema.migrate(primary.conninfo)
        database = either(folders, "postgres")
        world = stack.enter_context(World(connections.primary(database), exports_dir))
        settings = {"lease": 5, "heartbeat": 1, "max_attempts": 10}
        serving = world.start("serve", database=database, **settings)
        url = serving.url()
        working = world.start("worker", database=database, **settings)
        for number in (1, 2, 3):
            standby = follow(primary, folders[number % 2])
            stack.enter_context(standby)
            wait_for_standby(primary)
            ids = world.submit(LARGE, SLOW, "select 1 as n", LARGE, SLOW, SLOW)
            world.until_copying(ids[1])
            primary.stop(signal.SIGKILL)
            killed = time.monotonic()
            status, headers = post(url)
            assert (status, headers["Retry-After"]) == (503, "5")
            promote(standby)
            promoted = time.monotonic()
            while post(url)[0] != 202:
                assert time.monotonic() < promoted + PATIENCE
            accepted = time.monotonic()
            (newest,) = world.submit("select 2 as n")
            world.until(
                "select from exports where id = %s and status = 'completed'", newest
            )
            print(
                f"failover {number}: promoted {promoted - killed:.1f} s after the end of"
                f" the primary; accepting {accepted - promoted:.1f} s later, exporting"
                f" {time.monotonic() - promoted:.1f} s later"
            )
            primary = standby
        world.settle()
        assert set(world.statuses()) == {"completed"}
        assert serving.running() and working.running()
        world.check()


SLOW_COMMIT = """
create function wait_for_standby() returns trigger language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'on', true);
    return new;
end
$$;
create trigger wait before update on exports for each row
when (new.status = 'completed') execute function wait_for_standby();
"""


def test_a_completion_that_nobody_confirms_keeps_its_file(
    scratch: Path, tmp_path: Path
) -> None:
    """The commit waits for a standby for longer than the lease."""
    exports_dir = tmp_path / "exports"
    exports_dir.mkdir()
    local = {"synchronous_commit": "local"}
    with Postgres(scratch / "alone", settings=local) as database:
        schema.migrate(database)
        with psycopg.connect(database, autocommit=True) as conn, World(
            database, exports_dir
        ) as world:
            conn.execute(SLOW_COMMIT)
            conn.execute("alter system set synchronous_standby_names = 'nobody'")
            conn.execute("select pg_reload_conf()")
            (id,) = world.submit("select 1 as n")
            world.start().until("the outcome could not be reported")
            conn.execute("alter system reset synchronous_standby_names")
            conn.execute("select pg_reload_conf()")
            world.until(
                "select from exports where id = %s and status = 'completed'", id
            )
            world.check()


def post(url: str) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{url}/exports", json.dumps({"query": "select 3 as n"}).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, error.headers
