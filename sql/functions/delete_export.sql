create or replace function delete_export(p_id uuid)
returns text
language sql
set search_path to public, pg_temp
as $$
    delete from exports where id = p_id
    returning coalesce(file_path, '');
$$;
comment on function delete_export is $$
The export is gone, and with it the right to run it: its worker stops.

Returns the file that it leaves behind, which is the janitor's now; an empty
text if there was none; null if there was no such export.
$$;
