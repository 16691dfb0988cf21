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
pending, processing -> cancelled: I no longer want it.

Returns the status it has now, whatever it was; null if there is none.  The
worker hears of it and stops its COPY; its fencing token is void already.
$$;
