create or replace function find_key(p_digest bytea)
returns setof requester_keys
language plpgsql
set search_path to public, pg_temp
as $$
begin
    update requester_keys
    set last_used_at = now()
    where digest = p_digest
        and coalesce(last_used_at < now() - interval '1 minute', true);
    return query select * from live_keys where digest = p_digest;
end
$$;
comment on function find_key is $$
The key with the SHA-256 p_digest, if it is accepted now.  Notes that it is used.
$$;
