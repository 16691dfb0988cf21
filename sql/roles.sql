-- Two login roles, and one for administrators, shared by every installation in the
-- cluster.
--
-- csv_service owns the queue.  csv_reader runs the exported SELECTs and owns
-- nothing but three functions, so that GRANT is the allow-list:
--
--     grant select on orders to csv_reader;    -- publishes the table
--
-- Safe to repeat, and safe beside another database that does the same.

do $$
begin
    if to_regrole('csv_service') is null then
        create role csv_service login;
    end if;
exception when duplicate_object or unique_violation then
    null;  -- another database of this cluster was faster
end
$$;

do $$
begin
    if to_regrole('csv_reader') is null then
        create role csv_reader login;
    end if;
exception when duplicate_object or unique_violation then
    null;
end
$$;

-- Its members see the exports of everybody.  An upgrade by a role without CREATEROLE
-- goes on without it; see let_admins.
do $$
begin
    if to_regrole('csv_admin') is null then
        create role csv_admin;
    end if;
exception when duplicate_object or unique_violation or insufficient_privilege then
    null;
end
$$;

-- Membership shows the reader's running COPYs to the service, and lets it
-- cancel them.
do $$
begin
    if not pg_has_role('csv_service', 'csv_reader', 'usage') then
        grant csv_reader to csv_service;
    end if;
exception when duplicate_object or unique_violation then
    null;
end
$$;

-- Whoever installs must be able to act as both.
do $$
declare
    -- Since PostgreSQL 16 a member need not be able to SET ROLE.
    is_new constant boolean := current_setting('server_version_num')::integer >= 160000;
begin
    if not pg_has_role(current_user, 'csv_service', case when is_new then 'set' else 'member' end) then
        execute format('grant csv_service to %I', current_user);
    end if;
end
$$;

-- The queue lives in public, where psql users find it unprefixed.
do $$
begin
    if not has_schema_privilege('csv_service', 'public', 'create') then
        grant usage, create on schema public to csv_service;
    end if;
end
$$;
