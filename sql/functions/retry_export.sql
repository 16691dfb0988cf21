create or replace function retry_export(p_id uuid)
returns export_status
language plpgsql
set search_path to public, pg_temp
as $$
declare
    outcome export_status;
begin
    update exports
    set transition = 'retry',
        status = 'pending',
        failures = 0,
        run_at = clock_timestamp(),
        error = null,
        expires_at = null
    where id = p_id and status in ('failed', 'cancelled');
    select status into outcome from exports where id = p_id;
    return outcome;
end
$$;
comment on function retry_export is $$
failed, cancelled -> pending, with its full number of attempts.

Returns the status that the export has now, or null if there is none.
$$;
