create or replace function prune_exports(p_older_than interval, p_limit integer default 1000)
returns bigint
language plpgsql
set search_path to public, pg_temp
as $$
declare
    pruned bigint;
begin
    perform set_config('exports.forgets', 'on', true);  -- for log_exports
    delete from exports
    where id in (
        select id from exports
        where status in ('completed', 'failed', 'cancelled')
            and finished_at < now() - p_older_than
            and (status <> 'completed' or expires_at <= now())
        order by finished_at
        limit p_limit
        for update skip locked
    );
    get diagnostics pruned = row_count;
    perform set_config('exports.forgets', '', true);
    return pruned;
end
$$;
comment on function prune_exports is $$
Delete up to p_limit exports that ended more than p_older_than ago, the oldest first,
except those whose file is still kept.  Returns how many were deleted.
$$;
