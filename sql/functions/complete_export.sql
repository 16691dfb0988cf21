create or replace function complete_export(
    p_id uuid, p_attempt integer, p_rows bigint, p_bytes bigint, p_sha256 text,
    p_retention interval default null,
    p_columns jsonb default null, p_snapshot_at timestamptz default null
)
returns boolean
language plpgsql
as $$
begin
    update exports
    set transition = 'complete',
        status = 'completed',
        worker = null,
        lease_expires_at = null,
        finished_at = clock_timestamp(),
        expires_at = clock_timestamp() + p_retention,
        rows = p_rows,
        bytes = p_bytes,
        sha256 = p_sha256,
        result_columns = p_columns,
        snapshot_at = p_snapshot_at,
        error = null
    where id = p_id and attempt = p_attempt and status = 'processing';
    -- Again, because the first answer was lost on its way: it still holds.
    return found or exists (
        select from exports
        where id = p_id and attempt = p_attempt and status = 'completed'
    );
end
$$;
comment on function complete_export is $$
processing -> completed: the whole file is on disk under the attempt's name.

Its receipt has p_columns ([{"name": ..., "type": ...}]) as they were at
p_snapshot_at.  It is kept for p_retention, or for ever.  False if p_attempt no longer holds
the export; then the file is debris.
$$;
