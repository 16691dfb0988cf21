create or replace function find_relation(p_source text, p_search_path text)
returns regclass
language plpgsql stable
set search_path to 'pg_catalog'
as $$
declare
    relation regclass;
begin
    perform set_config('search_path', p_search_path, true);
    begin
        relation := to_regclass(p_source);
    exception when invalid_name or syntax_error then
        null;  -- PostgreSQL 15 raises where later ones return null
    end;
    relation := coalesce(relation, to_regclass(quote_ident(p_source)));
    if relation is null then
        raise undefined_table using
            message = format('relation "%s" does not exist', p_source),
            hint = 'Name a table or view, with its schema if it is not on the search_path.';
    end if;
    if (select relkind from pg_class where oid = relation) not in ('r', 'p', 'v', 'm', 'f') then
        raise wrong_object_type using
            message = format('"%s" is not a table or view', p_source);
    end if;
    return relation;
end
$$;
comment on function find_relation is $$
The table or view that p_source names under p_search_path, written as in SQL, or
without quotes in mixed case.
$$;
