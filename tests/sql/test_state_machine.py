"""Random transitions of the state machine, compared with a model of a few lines."""

from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

DIGEST = "b" * 64
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Model:
    """The expected state of an export."""

    priority: int
    order: int
    status: str = "pending"
    attempt: int = 0
    failures: int = 0
    outcomes: list[str] = field(default_factory=list)

    def leave(self, outcome: str, status: str) -> None:
        """The attempt ends."""
        self.outcomes.append(outcome)
        self.status = status

    def count_failure(self, outcome: str, transient: bool) -> None:
        self.failures += 1
        again = transient and self.failures < 2
        self.leave(outcome, "pending" if again else "failed")


class Exports(RuleBasedStateMachine):
    conninfo: str

    def __init__(self) -> None:
        super().__init__()
        self.conn = psycopg.connect(
            self.conninfo, autocommit=True, row_factory=dict_row
        )
        self.conn.execute("truncate exports cascade")
        self.models: dict[Any, Model] = {}
        self.clock = 0
        self.floors: list[Any] = [None] * 10

    def teardown(self) -> None:
        self.conn.close()

    def one(self, statement: str, *params: Any) -> Any:
        row = self.conn.execute(statement, params).fetchone()
        return next(iter(row.values())) if row else None

    def requeue(self, id: Any) -> None:
        """Put it behind all others of its priority, without a pause."""
        self.clock += 1
        self.models[id].order = self.clock
        self.conn.execute("update exports set run_at = now() where id = %s", [id])

    def pick(self, data: Any) -> tuple[Any, Model]:
        """Choose an export, preferably one that is being processed."""
        running = [one for one in self.models.items() if one[1].status == "processing"]
        return data.draw(st.sampled_from(running * 3 + list(self.models.items())))

    @initialize()
    def begin(self) -> None:
        for priority in (5, 5, 0):
            self.submit(priority)
        self.claim(False)

    @rule(priority=st.integers(0, 9))
    def submit(self, priority: int) -> None:
        id = self.one(
            "insert into exports (query, priority, max_attempts) values"
            " ('select 1', %s, 2) returning id",
            priority,
        )
        self.models[id] = Model(priority, 0)
        self.requeue(id)

    @rule(above_floors=st.booleans())
    def claim(self, above_floors: bool) -> None:
        floors = self.floors if above_floors else []
        row = self.conn.execute(
            "select * from claim_exports('w', '1 min', %s::bigint[])", [floors]
        ).fetchone()
        waiting = [
            (-m.priority, m.order, id)
            for id, m in self.models.items()
            if m.status == "pending"
        ]
        if row is None:
            assert above_floors or not waiting
            return
        if not above_floors:
            assert row["id"] == min(waiting)[2]
        self.floors[row["priority"]] = row["turn"]
        model = self.models[row["id"]]
        assert model.status == "pending"
        model.status = "processing"
        model.attempt += 1
        assert row["attempt"] == model.attempt

    @precondition(lambda self: self.models)
    @rule(
        data=st.data(),
        stale=st.booleans(),
        call=st.sampled_from(["heartbeat", "complete", "fail", "transient", "release"]),
    )
    def speak(self, data: Any, stale: bool, call: str) -> None:
        """A worker presents its current token, or an old one."""
        id, model = self.pick(data)
        attempt = model.attempt - stale
        held = model.status == "processing" and not stale
        again = model.status == "completed" and not stale
        match call:
            case "heartbeat":
                said = self.one(
                    "select heartbeat_export(%s, %s, '1 min', 1, 1)", id, attempt
                )
                assert (said is not None) == held
            case "complete":
                said = self.one(
                    "select complete_export(%s, %s, 1, 1, %s)", id, attempt, DIGEST
                )
                assert said == (held or again)
                if held:
                    model.leave("completed", "completed")
            case "release":
                assert self.one("select release_export(%s, %s)", id, attempt) == held
                if held:
                    model.leave("released", "pending")
            case _:
                transient = call == "transient"
                said = self.one(
                    'select fail_export(%s, %s, \'{"message": "no"}\', %s)',
                    id,
                    attempt,
                    transient,
                )
                assert (said is not None) == held
                if held:
                    model.count_failure("failed", transient)
                    assert said == model.status
                    if said == "pending":
                        self.requeue(id)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), by_hand=st.booleans())
    def cancel(self, data: Any, by_hand: bool) -> None:
        id, model = self.pick(data)
        running = model.status == "processing"
        if by_hand and model.status in ("completed", "failed"):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                self.conn.execute(
                    "update exports set status = 'cancelled' where id = %s", [id]
                )
        elif by_hand:
            self.conn.execute(
                "update exports set status = 'cancelled' where id = %s", [id]
            )
        else:
            said = self.one("select cancel_export(%s)", id)
            assert said == (model.status if model.status in ENDED else "cancelled")
        if running:
            model.leave("cancelled", "cancelled")
        elif model.status == "pending":
            model.status = "cancelled"

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def retry(self, data: Any) -> None:
        id, model = self.pick(data)
        self.conn.execute("select retry_export(%s)", [id])
        if model.status in ("failed", "cancelled"):
            model.status, model.failures = "pending", 0
            self.requeue(id)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def lose_the_lease(self, data: Any) -> None:
        id, model = self.pick(data)
        self.conn.execute(
            "update exports set transition = 'heartbeat', lease_expires_at = now() - interval '1 s'"
            " where id = %s and status = 'processing'",
            [id],
        )
        rescued = self.conn.execute("select id from rescue_exports()").fetchall()
        assert [row["id"] for row in rescued] == [id] * (model.status == "processing")
        if rescued:
            model.count_failure("lost", True)
            if model.status == "pending":
                self.requeue(id)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), priority=st.integers(0, 9))
    def reschedule(self, data: Any, priority: int) -> None:
        id, model = self.pick(data)
        if model.status == "pending":
            self.conn.execute(
                "update exports set priority = %s where id = %s", [priority, id]
            )
            if priority != model.priority:
                model.priority = priority
                self.requeue(id)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        id, _ = self.pick(data)
        self.conn.execute("delete from exports where id = %s", [id])
        del self.models[id]

    @invariant()
    def rows_are_what_we_believe(self) -> None:
        rows = self.conn.execute("select * from exports").fetchall()
        assert {row["id"] for row in rows} == set(self.models)
        for row in rows:
            model = self.models[row["id"]]
            outcomes = [one["outcome"] for one in row["history"]]
            assert (row["status"], row["attempt"], row["failures"], outcomes) == (
                model.status,
                model.attempt,
                model.failures,
                model.outcomes,
            )
            assert (row["worker"] is not None) == (model.status == "processing")
            ends = [(one["startedAt"], one["endedAt"]) for one in row["history"]]
            assert all(before[1] <= after[0] for before, after in zip(ends, ends[1:]))


def walk(database: str, *phases: Phase) -> None:
    machine = type("Machine", (Exports,), {"conninfo": database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=150,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            phases=phases or tuple(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.newest
def test_no_illegal_transition_ever(database: str) -> None:
    walk(database)


@pytest.mark.newest
def test_the_walk_finds_a_fence_that_is_gone(database: str, conn: Any) -> None:
    (definition,) = conn.execute(
        "select pg_get_functiondef('heartbeat_export'::regproc)"
    ).fetchone()
    conn.execute(definition.replace("and attempt = p_attempt", ""))
    with pytest.raises(AssertionError):
        walk(database, Phase.generate)
