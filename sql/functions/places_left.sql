create or replace function places_left(p_requester text)
returns bigint
language sql volatile
set search_path to public, pg_temp
set enable_seqscan to off
set enable_bitmapscan to off
as $$
    select max_running
        - (
            select count(*) from exports
            where status = 'processing' and requested_by = p_requester
        )
        - (
            select count(*) from exports
            where status = 'pending' and requested_by = p_requester and waits_for = 'worker'
        )
    from requesters
    where name = p_requester;
$$;
comment on function places_left is $$
How many more exports of p_requester may run, or wait for a worker; null: any number.
$$;
