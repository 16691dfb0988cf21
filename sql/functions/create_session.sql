create or replace function create_session(p_id text, out id text, out key text, out lasts interval)
language plpgsql
set search_path to public, pg_temp
as $$
declare
    maker requester_keys;
begin
    select k.* into maker
    from requester_keys as k
    join live_keys as live on live.id = k.id
    where k.id = p_id and k.made_by is null
    for share of k;
    if not found then
        return;
    end if;
    lasts := least(interval '12 hours', maker.expires_at - now());
    select made.id, made.key into create_session.id, create_session.key
    from create_key(maker.requester, maker.scopes, lasts, 'signed in by a browser') as made;
    update requester_keys as k set made_by = p_id where k.id = create_session.id;
end
$$;
comment on function create_session is $$
Make a key for a browser that has shown key p_id: it may do what that one may, for
twelve hours at most, and ends with it.

Returns what create_key returns, and for how long it is accepted; nulls if p_id is not
accepted, or was made for a browser itself.
$$;
