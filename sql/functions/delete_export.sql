create or replace function delete_export(p_id uuid)
returns text
language sql
set search_path to public, pg_temp
as $$
    delete from exports where id = p_id
    returning coalesce(file_path, '');
$$;
comment on function delete_export is $$
Delete an export in any state.  If it is running, its worker stops.

Returns the name of the file that is left for the janitor to delete, an empty text
if there was none, or null if there was no such export.
$$;
