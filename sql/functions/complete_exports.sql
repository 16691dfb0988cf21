create or replace function complete_exports(p_receipts jsonb, p_retention interval default null)
returns table (id uuid, held boolean)
language plpgsql
-- the statistics of a queue are always out of date
set enable_seqscan to off
set enable_hashjoin to off
set enable_mergejoin to off
-- A row that somebody else has locked must not keep the others waiting.
set lock_timeout to '500ms'
as $$
begin
    return query
    with told as (
        select * from jsonb_to_recordset(p_receipts) as _ (
            id uuid, attempt integer, rows bigint, bytes bigint, sha256 text,
            columns jsonb, snapshot_at timestamptz
        )
    ),
    completed as (
        update exports as e
        set transition = 'complete',
            status = 'completed',
            worker = null,
            lease_expires_at = null,
            finished_at = clock_timestamp(),
            expires_at = clock_timestamp() + p_retention,
            rows = told.rows,
            bytes = told.bytes,
            sha256 = told.sha256,
            result_columns = told.columns,
            snapshot_at = told.snapshot_at,
            error = null
        from told
        where e.id = told.id and e.attempt = told.attempt and e.status = 'processing'
        returning e.id, e.requested_by
    ),
    counted as (
        insert into requester_days (requester, day, bytes)
        select r.name, (now() at time zone 'UTC')::date, sum(told.bytes)
        from completed
        join told using (id)
        join requesters as r on r.name = completed.requested_by
        where r.max_bytes_a_day is not null
        group by r.name
        order by r.name
        on conflict (requester, day) do update set bytes = requester_days.bytes + excluded.bytes
    )
    select
        told.id,
        completed.id is not null
        -- Called again because the first answer was lost: it is completed already.
        or coalesce(e.attempt = told.attempt and e.status = 'completed', false)
    from told
    left join completed on completed.id = told.id
    left join exports as e on e.id = told.id;
end
$$;
comment on function complete_exports is $$
processing -> completed, for each receipt: {"id", "attempt", "rows", "bytes",
"sha256", "columns": [{"name", "type"}], "snapshot_at"}.  The whole file is on disk
under the name of the attempt.  It is kept for p_retention; null: without limit.

held is false if the attempt no longer holds the export; its file is then unused.
$$;
