create or replace function refuse_login(p_requester text)
returns void
language plpgsql stable
set search_path to public, pg_temp
as $$
begin
    if exists (
        select from pg_roles
        where rolname = p_requester and pg_has_role(oid, 'csv_service', 'member')
    ) then
        raise invalid_parameter_value using
            message = format('%s is a login of the service', p_requester),
            hint = 'Its exports are those of everybody who showed no key. Take another name.';
    end if;
end
$$;
comment on function refuse_login is $$
Raise an error if p_requester is a login of the service, which cannot be a requester.
$$;
