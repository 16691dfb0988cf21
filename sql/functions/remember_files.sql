create or replace function remember_files()
returns trigger
language plpgsql
security definer
set search_path to public, pg_temp
as $$
begin
    insert into deleted_files (name)
    select file_path from old_rows where file_path is not null
    on conflict do nothing;
    return null;
end
$$;
comment on function remember_files() is $$
Record which files the deleted exports leave behind.
$$;

-- Else a trigger on a table of their own lets anybody name files to delete.
revoke execute on function remember_files from public;
