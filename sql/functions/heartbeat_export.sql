create or replace function heartbeat_export(
    p_id uuid, p_attempt integer, p_lease interval, p_rows bigint, p_bytes bigint,
    p_estimated_rows bigint default null
)
returns timestamptz
language sql
as $$
    update exports
    set transition = 'heartbeat',
        lease_expires_at = now() + p_lease,
        rows = p_rows,
        bytes = p_bytes,
        estimated_rows = coalesce(p_estimated_rows, estimated_rows)
    where id = p_id and attempt = p_attempt and status = 'processing'
    returning lease_expires_at;
$$;
comment on function heartbeat_export is $$
processing -> processing: extend the lease by p_lease, and record rows, bytes and, if
it is known better than the planner knew, the expected number of rows.

Returns when the lease ends, or null if p_attempt no longer holds the export because
it was cancelled, rescued or deleted.  On null the worker must stop at once.
$$;
