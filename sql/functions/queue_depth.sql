create or replace function queue_depth(
    out pending bigint, out processing bigint, out oldest_seconds float8
)
language sql stable
as $$
    select
        (select count(*) from exports where status = 'pending'),
        (select count(*) from exports where status = 'processing'),
        coalesce(
            (
                select extract(epoch from greatest(now() - min(next.run_at), '0'))
                from generate_series(0, 9) as of_priority
                cross join lateral (
                    select run_at
                    from exports
                    where waits_for = 'worker' and priority = of_priority
                    order by turn, id
                    limit 1
                ) as next
            ),
            0
        );
$$;
comment on function queue_depth is $$
How many exports are pending and processing, and for how many seconds the next one, or
the next one of a lower priority, has been waiting for a worker.
$$;
