create or replace function log_links()
returns trigger
language plpgsql
set search_path to public, pg_temp
as $$
begin
    if tg_op = 'INSERT' or (old.revoked_at is null and new.revoked_at is not null) then
        insert into activities (action, requester, actor, key_id, address, export, detail)
        select
            case tg_op when 'INSERT' then 'link-made' else 'link-revoked' end,
            e.requested_by, asker.actor, asker.key_id, asker.address, e.id,
            jsonb_build_object('link', new.id)
        from exports as e
        cross join who_asks() as asker
        where e.id = new.export;
    end if;
    return null;
end
$$;
comment on function log_links() is $$
Log that a link was made or revoked.
$$;
