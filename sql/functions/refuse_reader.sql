create or replace function refuse_reader(p_role text)
returns void
language plpgsql stable
set search_path to public, pg_temp
as $$
declare
    reason text;
begin
    -- A SELECT can act as any role that its login is a member of.
    select
        case when rolname = p_role then '' else 'a member of ' || rolname || ', which is ' end
        || case
            when rolsuper then 'a superuser'
            when rolname = 'csv_service' then 'the service'
            when rolbypassrls then 'exempt from row-level security (BYPASSRLS)'
            when rolcreaterole then 'allowed to create roles (CREATEROLE)'
            when rolreplication then 'allowed to replicate (REPLICATION)'
            else 'allowed to use files and programs of the server'
        end
    into reason
    from pg_roles
    where pg_has_role(p_role::name, oid, 'member')
        and (
            rolsuper or rolbypassrls or rolcreaterole or rolreplication
            or rolname in (
                'csv_service', 'pg_read_server_files', 'pg_write_server_files',
                'pg_execute_server_program'
            )
        )
    order by rolname <> p_role, rolname
    limit 1;
    if reason is not null then
        raise invalid_role_specification using
            message = format('%s cannot be a reader: it is %s', p_role, reason),
            hint = 'Strangers write the SELECTs of a reader. Take a role that may do no more than read.';
    end if;
    if not (select rolcanlogin from pg_roles where rolname = p_role) then
        raise invalid_role_specification using
            message = format('%s cannot be a reader: it may not log in', p_role),
            hint = format('An administrator may change that: alter role %I login;', p_role);
    end if;
end
$$;
comment on function refuse_reader is $$
Raise an error if the SELECTs of strangers must not run as p_role.
$$;
