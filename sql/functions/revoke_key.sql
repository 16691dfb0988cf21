create or replace function revoke_key(p_id text)
returns boolean
language plpgsql
set search_path to public, pg_temp
as $$
begin
    update requester_keys set revoked_at = now() where id = p_id and revoked_at is null;
    return found;
end
$$;
comment on function revoke_key is $$
Accept key p_id no longer, also for the streams and downloads that it has opened.
False if there is no such key, or if it was revoked before.
$$;
