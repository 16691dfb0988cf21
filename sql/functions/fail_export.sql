create or replace function fail_export(
    p_id uuid, p_attempt integer, p_error jsonb, p_transient boolean default false,
    p_rows bigint default null, p_bytes bigint default null
)
returns export_status
language sql
as $$
    update exports
    set transition = 'fail',
        failures = failures + 1,
        worker = null,
        lease_expires_at = null,
        error = p_error,
        rows = coalesce(p_rows, rows),
        bytes = coalesce(p_bytes, bytes),
        (status, run_at, finished_at) = (
            select * from after_failure(failures + 1, max_attempts, p_transient)
        )
    where id = p_id and attempt = p_attempt and status = 'processing'
    returning status;
$$;
comment on function fail_export is $$
processing -> failed: record p_error ("message", and if known "sqlstate", "hint",
"detail"), and how many rows and bytes the attempt wrote.

If p_transient and attempts are left: processing -> pending, to run again after a
pause.  Returns the new status, or null if p_attempt no longer holds the export.
$$;
