create or replace function cancel_export(p_id uuid)
returns export_status
language plpgsql
set search_path to public, pg_temp
as $$
declare
    outcome export_status;
begin
    update exports set status = 'cancelled'
    where id = p_id and status in ('pending', 'processing');
    select status into outcome from exports where id = p_id;
    return outcome;
end
$$;
comment on function cancel_export is $$
pending, processing -> cancelled.

Returns the status that the export has now, or null if there is none.  The worker
is notified and stops its COPY; its attempt no longer holds the export.
$$;
