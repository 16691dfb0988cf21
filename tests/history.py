"""Exports that ended long ago, as many as wanted."""

from typing import Any

import psycopg

FILL = """
insert into exports (status, source, sql_text, requested_by, created_at, started_at,
    finished_at, expires_at, delimiter, header, null_text, quote_all, line_ending, bom,
    formula_guard, decimal_comma, digits_as_text, attempt, sha256, error, priority)
select s::export_status, 'users', 'select 1',
    case n % 1000 when 0 then 'rare' else 'user' || n % 10 end, at, at, at, now(),
    ',', true, '', false, 'lf', false, false, false, false, 1,
    case s when 'completed' then repeat('a', 64) end,
    case s when 'failed' then '{"message": "x"}'::jsonb end, 5
from generate_series(1, current_setting('history.rows')::integer) as n
cross join lateral (
    select now() - n * interval '1 minute',
        case n % 10 when 7 then 'failed' when 8 then 'cancelled' else 'completed' end
) as _ (at, s)
"""


def fill(conn: psycopg.Connection[Any], count: int) -> None:
    """Insert *count* ended exports, one a minute until now; one in ten failed."""
    conn.execute("set session_replication_role = replica")  # no triggers
    conn.execute("select set_config('history.rows', %s, false)", [str(count)])
    conn.execute(FILL)
    conn.execute("reset session_replication_role")
