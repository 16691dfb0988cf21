create or replace function rescue_exports()
returns setof exports
language sql
set search_path to public, pg_temp
as $$
    update exports
    set transition = 'rescue',
        failures = failures + 1,
        worker = null,
        lease_expires_at = null,
        error = jsonb_build_object(
            'message',
            format('the lease of attempt %s ran out: worker %s was lost', attempt, worker)
        ),
        (status, run_at, finished_at) = (
            select * from after_failure(failures + 1, max_attempts, true)
        )
    where id in (
        select id from exports
        where status = 'processing' and lease_expires_at < now()
        for update skip locked
    )
    returning *;
$$;
comment on function rescue_exports is $$
processing -> pending, or failed if no attempts are left: every export whose lease
has run out.  Returns them with their new status.  Any process may call it.
$$;
