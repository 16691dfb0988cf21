create or replace function log_activity(
    p_action text,
    p_requester text,
    p_actor text,
    p_key_id text,
    p_address text,
    p_export uuid default null,
    p_bytes bigint default null,
    p_detail jsonb default null
)
returns void
language sql
set search_path to public, pg_temp
as $$
    insert into activities (action, requester, actor, key_id, address, export, bytes, detail)
    values (
        p_action, p_requester, nullif(coalesce(p_actor, session_user), ''), p_key_id, p_address,
        p_export, p_bytes, p_detail
    );
$$;
revoke execute on function log_activity from public;
comment on function log_activity is $$
Log what the API did, and no trigger sees: a download, and a key that was refused.

p_actor is empty for a stranger, and null if the service asks nobody: then it is the
role of the session.
$$;
