create or replace function relations_in(p_sql text)
returns jsonb
language sql stable
as $$
    select coalesce(jsonb_object_agg(relname, nspname), '{}')
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where relname = any(array(
        select unnest(array[
            word[1], lower(word[1]), replace(substr(word[2], 2, length(word[2]) - 2), '""', '"')
        ])::name
        from (
            select regexp_matches(
                p_sql, E'((?:[A-Za-z_]|[^\\x01-\\x7f])(?:[A-Za-z0-9_$]|[^\\x01-\\x7f])*)', 'g'
            ) || '{}'::text[]
            union
            select array[null, (regexp_matches(p_sql, '"(?:[^"]|"")+"', 'g'))[1]]
        ) as _ (word)
    ))
        and relkind in ('r', 'p', 'v', 'm', 'f')
        and nspname <> 'pg_catalog'
        and pg_table_is_visible(pg_class.oid);
$$;
comment on function relations_in is $$
The words of p_sql that name a relation on the search_path, and its schema:
{"users": "public"}.

Words count wherever they stand, so there may be more of them than the text uses.
Names inside function bodies are not seen.
$$;
