create or replace function speaks_for(p_requester text)
returns boolean
language sql stable
set search_path to public, pg_temp
as $$
    select session_user = p_requester
        or pg_has_role(session_user, 'csv_service', 'member')
        or coalesce(pg_has_role(session_user, to_regrole('csv_admin'), 'member'), false);
$$;
comment on function speaks_for is $$
True if the limits and the line of p_requester are this session's business: it is theirs,
the service's, or that of a member of csv_admin.
$$;
