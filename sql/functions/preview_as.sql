create or replace function preview_as(
    p_reader text, p_sql text, p_search_path text, p_settings jsonb default null
)
returns json
language plpgsql
set search_path to public, pg_temp
as $$
begin
    if p_reader = 'csv_reader' and p_settings is null then
        return preview_as_reader(p_sql, p_search_path);
    end if;
    return call_as(p_reader, 'preview', p_sql, p_search_path, p_settings);
end
$$;
comment on function preview_as is $$
Like preview_as_reader, with the rights of p_reader, under p_settings.
$$;
