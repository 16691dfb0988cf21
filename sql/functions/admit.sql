create or replace function admit(p_requester text)
returns void
language plpgsql
security definer
set search_path to public, pg_temp
set enable_seqscan to off
set enable_bitmapscan to off
-- Somebody who keeps the lock must not keep up the exports of others.
set lock_timeout to '50ms'
as $$
declare
    places bigint;
begin
    -- An older snapshot would count too few.
    if current_setting('transaction_isolation') <> 'read committed' then
        return;
    end if;
    begin
        perform from requesters where name = p_requester for no key update;
    exception when lock_not_available then
        return;
    end;
    places := places_left(p_requester);
    if places < 0 then
        update exports
        set transition = 'admit', waits_for = 'limit'
        where id in (
            select id from exports
            where status = 'pending' and requested_by = p_requester and waits_for = 'worker'
            order by priority, turn desc
            limit -places
            for update skip locked
        );
    elsif places <> 0 or places is null then
        update exports
        set transition = 'admit', waits_for = 'worker', turn = greatest(turn, turn_reached(priority))
        where id in (
            select id from exports
            where status = 'pending' and requested_by = p_requester and waits_for = 'limit'
            order by priority desc, turn
            limit places
            for update skip locked
        );
    end if;
end
$$;
comment on function admit is $$
Let the next exports of p_requester wait for a worker, as far as max_running allows, or
hold back those that are too many.

Whoever ends, adds or removes an export calls it in the same transaction, under a lock of
the row in requesters.  So what runs and what waits for a worker are never more than
max_running.  If the lock cannot be had, admit_due does it within a second.
$$;
revoke execute on function admit from public;
