create or replace function create_key(
    p_requester text,
    p_scopes text[] default '{read,export,download}',
    p_expires_in interval default null,
    p_label text default null,
    out id text, out key text
)
language plpgsql
set search_path to public, pg_temp
as $$
declare
    secret bytea := '';
begin
    perform refuse_login(p_requester);
    -- PostgreSQL has no other source of strong random bytes.  Each UUID has 122 bits.
    for n in 1..3 loop
        secret := secret || uuid_send(gen_random_uuid());
    end loop;
    id := left(replace(gen_random_uuid()::text, '-', ''), 12);
    key := 'csv_' || id || '_' || encode(sha256(secret), 'hex');
    key := key || left(encode(sha256(key::bytea), 'hex'), 8);
    -- Browsers make keys each day; those that ended long ago tell nobody anything.
    delete from requester_keys as k
    where least(k.revoked_at, k.expires_at) < now() - interval '90 days';
    insert into requesters (name) values (p_requester) on conflict do nothing;
    insert into requester_keys (id, requester, digest, scopes, expires_at, label)
    values (id, p_requester, sha256(key::bytea), p_scopes, now() + p_expires_in, p_label);
end
$$;
comment on function create_key is $$
Make a key with which p_requester, who is made if new, may do what p_scopes say: read,
export, download, admin.  It is accepted for p_expires_in; null: until it is revoked.

Returns the id of the key, and the key: csv_<id>_<64 digits><checksum of 8>.  Nothing
can show the key again, because only its SHA-256 is stored.  Forgets the keys that ended
more than 90 days ago.
$$;
