-- psql users see and touch the exports that are theirs.

-- Who only read, such as a monitor, goes on seeing all.  Who submits has exports of
-- their own, and sees those.
do $$
declare
    reader name;
begin
    for reader in
        select distinct grantee::regrole::name
        from pg_class
        cross join aclexplode(relacl) as granted
        where oid in (to_regclass('public.exports'), to_regclass('public.live_exports'))
            and privilege_type = 'SELECT'
            and grantee <> 0
            and grantee <> 'csv_service'::regrole
            and not has_any_column_privilege(grantee, 'public.exports', 'insert')
    loop
        -- The view asks for the rights of who reads it from now on.
        execute format('grant select on exports to %I', reader);
        execute format(
            'create policy %I on exports for select to %I using (true)',
            left('seen by ' || reader, 63), reader
        );
    end loop;
    for reader in
        select distinct grantee::regrole::name
        from pg_class
        cross join aclexplode(relacl) as granted
        where oid = to_regclass('public.live_exports')
            and privilege_type = 'SELECT'
            and grantee not in (0, 'csv_service'::regrole)
    loop
        execute format('grant select on exports to %I', reader);
    end loop;
end
$$;

-- One requester's keys tell nothing of another's.
alter table exports
    drop constraint exports_idempotency_key_key,
    add constraint an_idempotency_key_is_used_once unique (idempotency_key, requested_by);

create policy "seen and touched by who asked" on exports
using (requested_by = session_user collate "default");

alter table exports enable row level security;

insert into exports_migrations (name) values ('0011-own-rows');
