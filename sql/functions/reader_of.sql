create or replace function reader_of(p_requester text, out reader text, out settings jsonb)
language plpgsql stable
security definer
set search_path to public, pg_temp
as $$
begin
    if speaks_for(p_requester) then
        select r.reader, nullif(r.settings, '{}') into reader_of.reader, reader_of.settings
        from requesters as r
        where r.name = p_requester;
    end if;
    reader := coalesce(reader, 'csv_reader');
end
$$;
comment on function reader_of is $$
The role that runs the exports of p_requester, and the settings that it runs them with;
null: none.

Everybody may ask for themselves.  About others only the service and members of csv_admin
are told.
$$;
grant execute on function reader_of to public;
