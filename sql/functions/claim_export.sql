create or replace function claim_export(
    p_worker text, p_lease interval, p_floors timestamptz[] default '{}',
    p_limit integer default 1
)
returns setof exports
language plpgsql
-- whatever the statistics say: they are always out of date for a queue
set enable_seqscan to off
set enable_bitmapscan to off
-- with a large backlog each call would be planned anew, since that looks cheaper
set plan_cache_mode to force_generic_plan
as $$
declare
    next_ids uuid[] := '{}';
begin
    for of_priority in reverse 9..0 loop
        next_ids := next_ids || array(
            select id
            from exports
            where status = 'pending'
                and priority = of_priority
                and run_at >= coalesce(p_floors[of_priority + 1], '-infinity')
                and run_at <= now()
            order by run_at, id
            limit p_limit - cardinality(next_ids)
            for update skip locked
        );
        exit when cardinality(next_ids) >= p_limit;
    end loop;
    return query
    update exports
    set transition = 'claim',
        status = 'processing',
        attempt = attempt + 1,
        worker = p_worker,
        lease_expires_at = clock_timestamp() + p_lease,
        started_at = clock_timestamp(),
        rows = 0,
        bytes = 0
    where id = any(next_ids)
    returning *;
end
$$;
comment on function claim_export is $$
pending -> processing: I lease the next p_limit exports, oldest first within
priority.

Two callers never receive the same export.  Its attempt is my fencing token:
I present it to every later call.  Fewer rows: there is no more to claim.

p_floors[priority + 1] is the run_at of what I claimed last: nothing older was
pending then, but what was claimed since some old snapshot is still in the
index, and costs time.  I leave the floors out now and then, for exports that
returned to their old place, or committed late.
$$;
