create or replace function claim_export(
    p_worker text, p_lease interval, p_floors timestamptz[] default '{}',
    p_limit integer default 1
)
returns setof exports
language plpgsql
-- the statistics of a queue are always out of date
set enable_seqscan to off
set enable_bitmapscan to off
-- else PostgreSQL plans each call again when the backlog is large
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
pending -> processing: lease up to p_limit due exports to p_worker, the oldest
first within a priority.

Two callers never receive the same export.  The attempt in the returned row is the
fencing token: the worker presents it to every later call.  Fewer rows than
p_limit mean that no more is due.

p_floors[priority + 1] is the run_at of the export of that priority that the worker
claimed last.  Nothing older was pending then, so the search begins there.  This
skips the index entries of exports that were claimed since some old snapshot was
taken, which cost time.  The worker leaves p_floors out once a second, to find
exports that returned to their old place or were committed late.
$$;
