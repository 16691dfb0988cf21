create or replace function create_link(
    p_export uuid,
    p_expires_in interval default '1 day',
    out id text, out token text, out expires_at timestamptz
)
language plpgsql
set search_path to public, pg_temp
as $$
declare
    secret bytea := '';
    asker constant record := who_asks();
    root requester_keys;
    file_expires_at timestamptz;
begin
    select e.expires_at into file_expires_at
    from exports as e
    where e.id = p_export and e.status = 'completed' and coalesce(e.expires_at > now(), true);
    if not found then
        raise object_not_in_prerequisite_state using
            message = format('export %s has no file', p_export),
            hint = 'A link leads to the file of a completed export.';
    end if;
    -- The key of a browser lasts for hours: the one that signed in counts.
    select k.* into root
    from requester_keys as shown
    join requester_keys as k on k.id = coalesce(shown.made_by, shown.id)
    where shown.id = asker.key_id;
    -- PostgreSQL has no other source of strong random bytes.  Each UUID has 122 bits.
    for n in 1..3 loop
        secret := secret || uuid_send(gen_random_uuid());
    end loop;
    token := encode(sha256(secret), 'hex');
    -- Not as long as the id of a key: the two are told apart by it.
    id := left(replace(gen_random_uuid()::text, '-', ''), 16);
    -- In seconds: a day of the calendar may have 25 hours.
    expires_at := least(
        now() + extract(epoch from p_expires_in) * interval '1 s', root.expires_at, file_expires_at
    );
    insert into export_links (id, export, digest, made_by, made_with, expires_at)
    values (id, p_export, sha256(token::bytea), asker.actor, coalesce(root.id, asker.key_id), expires_at);
end
$$;
revoke execute on function create_link from public;
comment on function create_link is $$
Make a link that downloads the file of export p_export, for p_expires_in, at most 30
days.  It ends before that with the file, when the key that asks for it would have
expired, and when that key is revoked.

Returns the id of the link, its secret part of 64 digits, and when it ends.  Nothing can
show the secret again, because only its SHA-256 is stored.
$$;
