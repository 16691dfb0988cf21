create or replace function log_exports()
returns trigger
language plpgsql
security definer
set search_path to public, pg_temp
as $$
declare
    asker constant record := who_asks();
begin
    if tg_op = 'UPDATE' then
        insert into activities (action, requester, actor, key_id, address, export, bytes, detail)
        select
            case n.status
                when 'processing' then 'started'
                when 'pending' then 'retried'
                else n.status::text
            end,
            n.requested_by, asker.actor, asker.key_id, asker.address, n.id,
            case when n.status in ('completed', 'failed', 'cancelled') then n.bytes end,
            case n.status
                when 'processing' then jsonb_build_object('attempt', n.attempt, 'worker', n.worker)
                when 'completed' then jsonb_build_object('attempt', n.attempt, 'rows', n.rows)
                when 'failed' then jsonb_build_object('attempt', n.attempt)
            end
        from new_rows as n
        join old_rows as o using (id)
        where n.status <> o.status and (n.status <> 'pending' or o.status <> 'processing');
    elsif tg_op = 'INSERT' then
        insert into activities (action, requester, actor, key_id, address, export, detail)
        select
            'submitted', requested_by, asker.actor, asker.key_id, asker.address, id,
            case
                when source is null then jsonb_build_object('query', left(query, 200))
                else jsonb_build_object('source', source)
            end
        from new_rows;
    else
        insert into activities (action, requester, actor, key_id, address, export)
        select
            case
                when current_setting('exports.forgets', true) = 'on'
                    and pg_has_role(session_user, 'csv_service', 'member') then 'forgotten'
                else 'deleted'
            end,
            requested_by, asker.actor, asker.key_id, asker.address, id
        from old_rows;
    end if;
    return null;
end
$$;
revoke execute on function log_exports() from public;
comment on function log_exports() is $$
Log which exports were submitted, started, completed, failed, cancelled, retried and
deleted, also by those who cannot read the log.  Attempts that are tried again are in
the history of the export instead.
$$;
