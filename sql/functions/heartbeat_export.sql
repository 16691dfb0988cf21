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
processing -> processing: I am alive, and this is how far I came, and perhaps,
better than the planner knew, of how many rows.

Returns when the lease will end, or null if p_attempt no longer holds the
export: it was cancelled, rescued or deleted.  On null I stop at once; I own
nothing.
$$;
