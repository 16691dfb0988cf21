create or replace function call_as(
    p_reader text, p_what text, p_sql text, p_search_path text, p_settings jsonb
)
returns json
language plpgsql
set search_path to public, pg_temp
as $$
declare
    told json;
begin
    perform set_config(key, value, true) from jsonb_each_text(p_settings);
    execute format('select public.%I($1, $2)', function_of(p_reader, p_what))
    into told using p_sql, p_search_path;
    raise sqlstate 'P0END';  -- undoes the settings
exception when sqlstate 'P0END' then
    return told;
end
$$;
comment on function call_as is $$
What p_reader's function p_what, explain or preview, says of p_sql, under p_settings.
$$;
