create or replace function find_debris(p_names text[])
returns table (name text, known boolean)
language plpgsql
as $$
begin
    -- One process at a time is enough; the others try again later.  Any role can
    -- take any advisory lock, but not this one.
    begin
        lock table deleted_files in share update exclusive mode nowait;
    exception when lock_not_available then
        return;
    end;
    delete from deleted_files where deleted_at < now() - interval '30 days';
    delete from requester_days where day < current_date - 90;
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
Those of the files p_names, each `<id>-<attempt>.<ext>`, that no export needs: files
of attempts that did not complete, and of expired and deleted exports.

List the files before the call: then no file that is being written is returned.
known is false if the database has never had such an export: the file may belong to
another database.
$$;
