create or replace function claim_export(p_worker text, p_lease interval)
returns setof exports
language plpgsql
as $$
begin
    return query
    update exports
    set transition = 'claim',
        status = 'processing',
        attempt = attempt + 1,
        worker = p_worker,
        lease_expires_at = now() + p_lease,
        started_at = clock_timestamp(),
        rows = 0,
        bytes = 0
    where id = (
        select id from exports
        where status = 'pending' and run_at <= now()
        order by priority desc, run_at, id
        limit 1
        for update skip locked
    )
    returning *;
end
$$;
comment on function claim_export is $$
pending -> processing: I lease the next export, oldest first within priority.

Two callers never receive the same export.  Its attempt is my fencing token:
I present it to every later call.  No row: there is nothing to claim.
$$;
