create or replace function release_export(p_id uuid, p_attempt integer)
returns boolean
language plpgsql
as $$
begin
    update exports
    set transition = 'release',
        status = 'pending',
        worker = null,
        lease_expires_at = null
    where id = p_id and attempt = p_attempt and status = 'processing';
    return found;
end
$$;
comment on function release_export is $$
processing -> pending: I am shutting down and hand it back, in its old place.

It does not count as a failure.  False if p_attempt no longer holds it.
$$;
