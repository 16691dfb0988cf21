"""With any number of ended exports, the usual queries read only a few index pages."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ..history import fill

Conn = psycopg.Connection[Any]

ENDED = 20_000


@pytest.fixture
def history(conn: Conn) -> Iterator[Conn]:
    """A table with many ended exports and some pending ones."""
    fill(conn, ENDED)
    conn.execute(
        "insert into exports (source) select 'users' from generate_series(1, 5)"
    )
    conn.execute("analyze exports")
    yield conn


@pytest.mark.parametrize(
    "question",
    [
        "select * from list_exports(51)",
        "select * from list_exports(51, 'completed')",
        "select * from list_exports(51, 'failed')",
        "select * from list_exports(51, 'pending')",
        "select * from list_exports(51, p_source => 'users')",
        "select * from list_exports(51, p_requested_by => 'rare')",
        "select * from list_exports(51, p_requested_by => 'nobody')",
        "select * from list_exports(51, p_created_from => now() - interval '1 hour')",
        "select * from list_exports(51, p_created_until => now() - interval '9000 minutes')",
        "select * from list_exports(51, p_before_at => now() - interval '9000 minutes',"
        " p_before_id => gen_random_uuid())",
        "select * from live_exports where id = (select id from exports limit 1)",
        "select * from watch_exports('{}', true, true, null)",
        "select * from watch_exports('{}', true, true, now() - interval '1 minute')",
        "select * from watch_exports(array(select id from exports limit 3), false, false, null)",
        "select * from queue_depth()",
        "select * from claim_exports('w', '1 minute')",
        "select * from rescue_exports()",
        "select * from next_export_in()",
    ],
)  # fmt: skip
def test_nothing_reads_the_history(history: Conn, question: str) -> None:
    def read() -> tuple[int, int]:
        history.execute("select pg_stat_force_next_flush()")
        row = history.execute(
            "select seq_scan, seq_tup_read + idx_tup_fetch from pg_stat_user_tables"
            " where relname = 'exports'"
        ).fetchone()
        assert row
        return row

    before = read()
    history.execute(question)
    scans, rows = (now - then for now, then in zip(read(), before))
    limited = question.count("from exports limit")  # the question's own scans
    assert scans <= limited, "a sequential scan of exports"
    assert rows < 1_500, f"{rows} rows were read"


def test_history_is_pruned_the_oldest_first_and_no_file_before_its_time(
    history: Conn,
) -> None:
    history.execute(
        "update exports set expires_at = case when created_at = first.at"
        " then now() + interval '1 day' else finished_at + interval '1 s' end"
        " from (select min(created_at) as at from exports) as first"
        " where status = 'completed'"
    )
    prune = "select prune_exports(interval '7 days', 1000)"
    pruned = []
    while (count := history.execute(prune).fetchone()) != (0,):
        assert count
        pruned.append(count[0])
    old = ENDED - 7 * 24 * 60 + 1
    # One old export is not pruned: its file is still kept.
    assert pruned == [1000] * (old // 1000) + [old % 1000 - 1]
    left = history.execute(
        "select count(*), count(*) filter (where status = 'pending') from exports"
    ).fetchone()
    assert left == (ENDED - old + 1 + 5, 5)


def test_files_of_pruned_exports_are_remembered(conn: Conn) -> None:
    row = conn.execute("insert into exports default values returning id").fetchone()
    assert row
    name = f"{row[0]}-1.csv"
    conn.execute("select from claim_exports('w', '1 hour')")
    conn.execute(
        "select complete_export(%s, 1, 1, 1, repeat('a', 64), '1 s', '[]', now())", row
    )
    conn.execute("set session_replication_role = replica")  # no triggers
    conn.execute("update exports set finished_at = now() - interval '2 days'")
    conn.execute("reset session_replication_role")
    assert conn.execute("select prune_exports('1 day')").fetchone() == (0,)
    conn.execute("update exports set expires_at = now() - interval '1 day'")
    assert conn.execute("select prune_exports('1 day')").fetchone() == (1,)
    found = conn.execute("select * from find_debris(%s)", [[name]]).fetchall()
    assert found == [(name, True)]
