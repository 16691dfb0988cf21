"""Workers that die, stall, or are told to stop."""

import random
import signal
import time
from typing import Any

import pytest

from .world import LARGE, SLOW, World, eventually

pytestmark = pytest.mark.newest


def test_killed_in_the_middle_of_a_copy(world: World) -> None:
    (id,) = world.submit(SLOW)
    victim = world.start()
    world.until_copying(id)
    victim.kill()
    world.start()
    world.settle()
    (export,) = world.rows("select * from exports")
    assert [one["outcome"] for one in export["history"]] == ["lost", "completed"]
    assert "was lost" in export["history"][0]["error"]["message"]
    world.check()


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment(world: World, seed: int) -> None:
    chance = random.Random(seed)
    world.submit(*[LARGE, SLOW, "select 1 as n"] * 4)
    for _ in range(4):
        victim = world.start()
        world.hurry()
        time.sleep(chance.uniform(0, 1))  # any moment, so there is no event to wait for
        victim.kill()
    world.start()
    world.settle()
    assert world.statuses() == {"completed": 12}
    world.check()


@pytest.mark.parametrize("moment", ["claimed", "renamed", "completed"])
def test_killed_between_two_steps(world: World, moment: str) -> None:
    """Killed between claim and COPY, between rename and complete, or after complete."""
    (id,) = world.submit(LARGE)
    victim = world.start(moment, module="tests.crash.dies_when")
    assert victim.end() == -signal.SIGKILL
    (export,) = world.rows("select * from exports")
    assert export["status"] == ("completed" if moment == "completed" else "processing")
    assert (world.exports_dir / f"{id}-1.csv").exists() == (moment != "claimed")
    world.start()
    world.settle()
    world.check()


def test_paused_past_its_lease(world: World) -> None:
    """It wakes up as a zombie: its bytes and its final report have no effect."""
    (id,) = world.submit(SLOW)
    zombie = world.start()
    world.until_copying(id)
    zombie.signal(signal.SIGSTOP)
    other = world.start()
    world.settle()
    (export,) = world.rows("select * from exports")
    assert (export["status"], export["attempt"]) == ("completed", 2)
    zombie.signal(signal.SIGCONT)
    zombie.until("is no longer ours: attempt 1 dropped")
    world.check()
    world.submit("select 2 as n")  # both workers must go on
    world.settle()
    assert zombie.running() and other.running()
    world.check()


def test_paused_between_copy_and_complete(world: World) -> None:
    """The file already has its final name when the lease is lost."""
    (id,) = world.submit("select 1 as n")
    zombie = world.start("renamed", module="tests.crash.dies_when", how="SIGSTOP")
    eventually((world.exports_dir / f"{id}-1.csv").exists, "the file")
    world.start()
    world.settle()
    zombie.signal(signal.SIGCONT)
    zombie.until("attempt 1 dropped")
    assert world.rows("select attempt from exports") == [{"attempt": 2}]
    world.check()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_hands_back(world: World, how: signal.Signals) -> None:
    (id,) = world.submit(SLOW)
    process = world.start()
    world.until_copying(id)
    process.signal(how)
    assert process.end() == 0
    (export,) = world.rows("select * from exports")
    assert (export["status"], export["failures"]) == ("pending", 0)
    assert export["history"][0]["outcome"] == "released"
    world.start()
    world.settle()
    world.check()


def test_a_second_signal_ends_at_once(world: World) -> None:
    (id,) = world.submit(SLOW)
    process = world.start(drain_timeout=600)
    world.until_copying(id)
    process.signal(signal.SIGTERM)
    process.until("shutting down")
    process.signal(signal.SIGTERM)
    assert process.end() == 130
    world.start()
    world.settle()
    world.check()


@pytest.mark.parametrize(
    "limit, message",
    [
        ({"max_export_duration": 0.7}, "MAX_EXPORT_DURATION"),
        ({"max_export_bytes": 5_000}, "MAX_EXPORT_BYTES"),
    ],
)
def test_limits_hold_whatever_the_query_sets(
    world: World, limit: dict[str, Any], message: str
) -> None:
    world.submit(
        "select set_config('statement_timeout', '0', false), pg_sleep(0.01), n"
        " from generate_series(1, 100000) as n"
    )
    world.start(**limit)
    world.settle()
    (export,) = world.rows("select * from exports")
    assert (export["status"], export["attempt"]) == ("failed", 1)
    assert message in export["error"]["message"]
    world.check()


def test_an_error_of_the_select_is_final(world: World) -> None:
    world.submit("select 1 / (n - 5000) as x from generate_series(1, 10000) as n")
    world.start()
    world.settle()
    (export,) = world.rows("select * from exports")
    assert (export["status"], export["attempt"]) == ("failed", 1)
    assert export["error"] == {"message": "division by zero", "sqlstate": "22012"}
    world.check()


def test_what_kills_every_worker_is_given_up(world: World) -> None:
    world.submit("select 1 as n", max_attempts=2)
    for status in ("pending", "failed"):
        victim = world.start("renamed", module="tests.crash.dies_when")
        assert victim.end() == -signal.SIGKILL
        janitor = world.start("serve", "--slots", "0")
        world.until("select from exports where status = %s", status)
        janitor.kill()
        world.hurry()
    (export,) = world.rows("select * from exports")
    assert [one["outcome"] for one in export["history"]] == ["lost", "lost"]
    world.start()
    world.check()
