create or replace function rotate_key(
    p_id text, p_overlap interval default '1 day', out id text, out key text
)
language plpgsql
set search_path to public, pg_temp
as $$
declare
    former requester_keys;
begin
    select k.* into former
    from requester_keys as k
    join live_keys as live on live.id = k.id
    where k.id = p_id and num_nonnulls(k.made_by, k.replaced_by) = 0
    for update of k;
    if not found then
        return;
    end if;
    select made.id, made.key into rotate_key.id, rotate_key.key
    from create_key(
        former.requester, former.scopes, former.expires_at - former.created_at, former.label
    ) as made;
    update requester_keys as k
    set replaced_by = rotate_key.id, expires_at = least(k.expires_at, now() + p_overlap)
    where k.id = p_id;
end
$$;
comment on function rotate_key is $$
Make a key that may do what key p_id may, and that is accepted for as long as that one
was.  Key p_id is accepted for p_overlap more, so that programs can change over.

Returns what create_key returns; nulls if there is no such key that is accepted, or if
it was replaced already.
$$;
