create or replace function log_keys()
returns trigger
language plpgsql
set search_path to public, pg_temp
as $$
declare
    done text;
    about requester_keys := coalesce(new, old);
begin
    if tg_op = 'INSERT' then
        done := 'key-made';
    elsif tg_op = 'DELETE' then
        if old.revoked_at is null and coalesce(old.expires_at > now(), true) then
            done := 'key-revoked';
        end if;
    elsif old.revoked_at is null and new.revoked_at is not null then
        done := 'key-revoked';
    elsif old.replaced_by is null and new.replaced_by is not null then
        done := 'key-rotated';
    end if;
    if done is not null then
        insert into activities (action, requester, actor, key_id, address, detail)
        select
            done, about.requester, asker.actor, asker.key_id, asker.address,
            jsonb_strip_nulls(jsonb_build_object(
                'key', about.id,
                'by', case done when 'key-rotated' then about.replaced_by end,
                'label', case done when 'key-made' then about.label end,
                'scopes', case done when 'key-made' then to_jsonb(about.scopes) end
            ))
        from who_asks() as asker;
    end if;
    return null;
end
$$;
comment on function log_keys() is $$
Log that a key was made, rotated or revoked.  A key that is deleted while it is accepted
counts as revoked.
$$;
