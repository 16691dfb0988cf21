create or replace function retry_export(p_id uuid)
returns export_status
language plpgsql
set search_path to public, pg_temp
as $$
declare
    outcome export_status;
    before exports;
begin
    select e.* into before
    from exports as e
    cross join reader_of(e.requested_by) as has
    where e.id = p_id and e.status in ('failed', 'cancelled')
        and (e.reader, e.settings) is distinct from (has.reader, has.settings);
    if found then
        raise object_not_in_prerequisite_state using
            message = format('%s has another reader, or other settings, than export %s', before.requested_by, p_id),
            hint = 'Submit it again.';
    end if;
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
failed, cancelled -> pending, with its full number of attempts.  An error if its
requester has another reader, or other settings, by now.

Returns the status that the export has now, or null if there is none.
$$;
