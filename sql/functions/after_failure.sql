create or replace function after_failure(
    p_failures integer, p_max_attempts integer, p_retry_in interval,
    out status export_status, out run_at timestamptz, out finished_at timestamptz
)
language sql volatile
as $$
    select
        case when again then 'pending' else 'failed' end::export_status,
        clock_timestamp() + coalesce(p_retry_in, '0'),
        case when not again then clock_timestamp() end
    from (select p_retry_in is not null and p_failures < p_max_attempts) as _ (again);
$$;
comment on function after_failure is $$
Where an export goes after its p_failures-th failure: back to pending in
p_retry_in, or to failed, because attempts are used up or p_retry_in is null.
$$;
