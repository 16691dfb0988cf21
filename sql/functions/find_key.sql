create or replace function find_key(p_digest bytea)
returns setof requester_keys
language plpgsql
set search_path to public, pg_temp
as $$
begin
    if not current_setting('transaction_read_only')::boolean then
        update requester_keys
        set last_used_at = now()
        where id = (
            select id from requester_keys
            where digest = p_digest
                and coalesce(last_used_at < now() - interval '1 minute', true)
            for update skip locked
        );
    end if;
    return query
    select k.*
    from requester_keys as k
    join live_keys as live on live.id = k.id
    where k.digest = p_digest;
end
$$;
comment on function find_key is $$
The key with the SHA-256 p_digest, if it is accepted now.  Notes that it is used, unless
the server is read-only or somebody has locked the key.
$$;
