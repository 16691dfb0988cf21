create or replace function revoke_link(p_export uuid, p_id text)
returns boolean
language plpgsql
set search_path to public, pg_temp
as $$
begin
    update export_links
    set revoked_at = now()
    where export = p_export and id = p_id and revoked_at is null;
    return found;
end
$$;
revoke execute on function revoke_link from public;
comment on function revoke_link is $$
Let link p_id of export p_export lead nowhere, and end the downloads that it has begun.
False if there is no such link, or if it was revoked before.
$$;
