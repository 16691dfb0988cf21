create or replace function admit_due()
returns void
language plpgsql
set enable_seqscan to off
set enable_bitmapscan to off
set plan_cache_mode to force_generic_plan
as $$
declare
    limited text;
begin
    update exports
    set transition = 'due'
    where id in (
        select id from exports
        where waits_for = 'time' and run_at <= clock_timestamp()
        order by run_at
        limit 1000
        for update skip locked
    );
    -- A lock that could not be had has left free places; see admit.
    for limited in select name from requesters where max_running is not null order by name loop
        if exists (
            select from exports
            where status = 'pending' and requested_by = limited and waits_for = 'limit'
        ) and places_left(limited) > 0 then
            perform admit(limited);
        end if;
    end loop;
end
$$;
comment on function admit_due is $$
Let exports that have become due wait for a worker, and those of requesters with a limit
for whom there is a place.
$$;
