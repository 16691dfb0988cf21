create or replace function queue_up(
    p_requester text, p_priority integer, p_run_at timestamptz,
    out waits_for text, out turn bigint
)
language plpgsql
security definer
set search_path to public, pg_temp
as $$
declare
    reached constant bigint := turn_reached(p_priority);
    theirs requesters;
    last_of_theirs bigint;
begin
    perform refuse_strangers(p_requester);
    select * into theirs from requesters where name = p_requester;
    waits_for := case
        when p_run_at > clock_timestamp() then 'time'
        when theirs.max_running is not null then 'limit'
        else 'worker'
    end;
    select max(e.turn) into last_of_theirs
    from unnest('{limit,worker}'::text[]) as line
    cross join lateral (
        select e.turn
        from exports as e
        where e.status = 'pending'
            and e.requested_by = p_requester
            and e.waits_for = line
            and e.priority = p_priority
            and e.turn > reached
        order by e.turn desc
        limit 1
    ) as e;
    turn := coalesce(last_of_theirs, reached) + 1000000 / coalesce(theirs.weight, 1);
end
$$;
comment on function queue_up is $$
What a pending export waits for, and its turn among those of its priority.

Turns are start-time fair queueing: the next export of a requester is one step behind
their last one, and who has none waiting begins at the turn that was claimed last.  A
step is 1,000,000 divided by the weight of the requester.  So everybody with a backlog
gets a share by weight, and each requester is served first come, first served.
$$;
