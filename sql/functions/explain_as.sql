create or replace function explain_as(
    p_reader text, p_sql text, p_search_path text, p_settings jsonb default null
)
returns jsonb
language plpgsql
set search_path to public, pg_temp
as $$
begin
    if p_reader = 'csv_reader' and p_settings is null then
        return explain_as_reader(p_sql, p_search_path);
    end if;
    return call_as(p_reader, 'explain', p_sql, p_search_path, p_settings);
end
$$;
comment on function explain_as is $$
Like explain_as_reader, with the rights of p_reader, under p_settings.
$$;
