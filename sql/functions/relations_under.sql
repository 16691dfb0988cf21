create or replace function relations_under(p_sql text, p_search_path text)
returns jsonb
language plpgsql stable
set search_path to 'pg_catalog'
as $$
begin
    perform set_config('search_path', p_search_path, true);
    return public.relations_in(p_sql);
end
$$;
comment on function relations_under is $$
relations_in p_sql under the search_path p_search_path, for the current user.
$$;
