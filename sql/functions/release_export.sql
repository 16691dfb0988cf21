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
processing -> pending, at its old place: the worker shuts down.

This does not count as a failure.  False if p_attempt no longer holds the export.
$$;
