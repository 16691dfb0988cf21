create or replace function after_failure(
    p_failures integer, p_max_attempts integer, p_transient boolean,
    out status export_status, out run_at timestamptz, out finished_at timestamptz
)
language sql volatile
as $$
    select
        case when again then 'pending' else 'failed' end::export_status,
        clock_timestamp()
            + interval '1 s' * least(300, 4 ^ p_failures) * (0.5 + random() / 2),
        case when not again then clock_timestamp() end
    from (select p_transient and p_failures < p_max_attempts) as _ (again);
$$;
comment on function after_failure is $$
The state of an export after its p_failures-th failure: pending again, or failed
if no attempts are left or p_transient is false.

The next attempt waits 4, 16, 64, 256, then 300 seconds, reduced at random by up
to a half, so that exports that failed together do not run again together.
$$;
