create or replace function next_export_in()
returns interval
language sql stable
set enable_seqscan to off
set enable_bitmapscan to off
as $$
    select run_at - now()
    from exports
    where waits_for = 'time' and run_at > now()
    order by run_at
    limit 1;
$$;
comment on function next_export_in is $$
The time until the next pending export becomes due; null if none waits for its time.
$$;
