create or replace function session_search_path()
returns text
language sql stable
as $$
    select coalesce(
        string_agg(quote_ident(schema), ', ' order by n) filter (where not starts_with(schema, 'pg_temp')),
        'pg_catalog'
    )
    from unnest(current_schemas(false)) with ordinality as _ (schema, n);
$$;
comment on function session_search_path is $$
The schemas in which this session looks up names, without "$user" and schemas that do
not exist.
$$;
