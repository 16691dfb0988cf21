create or replace function refuse_strangers(p_requester text)
returns void
language plpgsql stable
set search_path to public, pg_temp
as $$
begin
    if not speaks_for(p_requester) then
        raise insufficient_privilege using
            message = format('%s may not ask in the name of %s', session_user, p_requester),
            hint = 'Members of csv_admin may.';
    end if;
end
$$;
comment on function refuse_strangers is $$
Raise an error unless this session speaks_for p_requester.
$$;
