create or replace function place_in_queue(p_id uuid)
returns bigint
language sql stable
security definer
set search_path to public, pg_temp
as $$
    select place
    from (
        select id, row_number() over (order by priority desc, turn, id) as place
        from exports
        where waits_for = 'worker'
        order by priority desc, turn, id
        limit 100
    ) as _
    where id = p_id;
$$;
comment on function place_in_queue is $$
The place of export p_id among all that wait for a worker, from 1; null if it is not among
the first hundred.
$$;
