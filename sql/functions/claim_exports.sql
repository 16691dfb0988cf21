create or replace function claim_exports(
    p_worker text, p_lease interval, p_floors bigint[] default '{}',
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
    of_this uuid[];
    reached bigint;
begin
    if cardinality(p_floors) = 0 then
        perform admit_due();
    end if;
    for of_priority in reverse 9..0 loop
        select array_agg(id), max(turn) into of_this, reached
        from (
            select id, turn
            from exports
            where waits_for = 'worker'
                and priority = of_priority
                and turn >= coalesce(p_floors[of_priority + 1], 0)
            order by turn, id
            limit p_limit - cardinality(next_ids)
            for update skip locked
        ) as _;
        if reached is not null and reached > turn_reached(of_priority) then
            perform setval(('exports_turn_' || of_priority)::regclass, reached);
        end if;
        next_ids := next_ids || of_this;
        exit when cardinality(next_ids) >= p_limit;
    end loop;
    return query
    update exports
    set transition = 'claim',
        status = 'processing',
        waits_for = null,
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
comment on function claim_exports is $$
pending -> processing: lease up to p_limit exports that wait for a worker to p_worker, by
priority, and in it by turn; see queue_up.

Two callers never receive the same export.  The attempt in the returned row is the
fencing token: the worker presents it to every later call.  Fewer rows than
p_limit mean that no more wait for a worker.

p_floors[priority + 1] is the turn of the export of that priority that the worker
claimed a moment ago.  Nothing before it was waiting then, so the search begins there.
This skips the index entries of exports that were claimed since some old snapshot was
taken, which cost time.  The worker leaves p_floors out once a second, to find
exports that returned to their old place, were committed late, or have become due.
$$;
