create or replace function next_export_in()
returns interval
language sql stable
set enable_seqscan to off
set enable_bitmapscan to off
as $$
    select min(next.run_at) - now()
    from generate_series(0, 9) as of_priority
    cross join lateral (
        select run_at
        from exports
        where status = 'pending' and priority = of_priority and run_at > now()
        order by run_at
        limit 1
    ) as next;
$$;
comment on function next_export_in is $$
The time until the next pending export becomes due; null if none is pending.
$$;
