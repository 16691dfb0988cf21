create or replace function find_debris(p_names text[])
returns table (name text, known boolean)
language plpgsql
as $$
begin
    -- One process at a time is enough; the others look again later.  Strangers
    -- may take any advisory lock, but not this one.
    begin
        lock table deleted_files in share update exclusive mode nowait;
    exception when lock_not_available then
        return;
    end;
    delete from deleted_files where deleted_at < now() - interval '30 days';
    return query
    select found.name, e.id is not null or d.name is not null
    from unnest(p_names) as found (name)
    left join exports as e on e.id = substring(found.name for 36)::uuid
    left join deleted_files as d on d.name = found.name
    where e.file_path is distinct from found.name
        or (e.status = 'completed' and e.expires_at <= now());
end
$$;
comment on function find_debris is $$
Those of the files p_names, `<id>-<attempt>.<ext>` each, that no export refers
to: of attempts that have ended otherwise, of expired and of deleted exports.

List the files first: then nothing that is still being written is among them.
Not known: no such export was ever here, so it may be somebody else's.
$$;
