create or replace function prune_activities(p_older_than interval, p_limit integer default 10000)
returns bigint
language sql
set search_path to public, pg_temp
as $$
    with pruned as (
        delete from activities
        where (at, id) in (
            select at, id from activities
            where at < now() - p_older_than
            order by at, id
            limit p_limit
            for update skip locked
        )
        returning 1
    )
    select count(*) from pruned;
$$;
comment on function prune_activities is $$
Delete up to p_limit activities that were logged more than p_older_than ago, the oldest
first.  Returns how many were deleted.
$$;
