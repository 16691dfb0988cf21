create or replace function preview_as(
    p_reader text, p_sql text, p_search_path text, p_settings jsonb default null
)
returns json
language plpgsql
set search_path to public, pg_temp
as $$
declare
    first_rows json;
begin
    if p_reader = 'csv_reader' and p_settings is null then
        return preview_as_reader(p_sql, p_search_path);
    end if;
    begin
        perform set_config(key, value, true) from jsonb_each_text(p_settings);
        execute format('select public.%I($1, $2)', function_of(p_reader, 'preview'))
        into first_rows using p_sql, p_search_path;
        raise sqlstate 'P0END';  -- undoes the settings
    exception when sqlstate 'P0END' then
        null;
    end;
    return first_rows;
end
$$;
comment on function preview_as is $$
Like preview_as_reader, with the rights of p_reader, under p_settings.
$$;
