create or replace function explain_as(
    p_reader text, p_sql text, p_search_path text, p_settings jsonb default null
)
returns jsonb
language plpgsql
set search_path to public, pg_temp
as $$
declare
    explained jsonb;
begin
    if p_reader = 'csv_reader' and p_settings is null then
        return explain_as_reader(p_sql, p_search_path);
    end if;
    begin
        perform set_config(key, value, true) from jsonb_each_text(p_settings);
        execute format('select public.%I($1, $2)', function_of(p_reader, 'explain'))
        into explained using p_sql, p_search_path;
        raise sqlstate 'P0END';  -- undoes the settings
    exception when sqlstate 'P0END' then
        null;
    end;
    return explained;
end
$$;
comment on function explain_as is $$
Like explain_as_reader, with the rights of p_reader, under p_settings.
$$;
