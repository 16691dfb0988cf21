create or replace function compile_select(p_source text, p_columns text[])
returns text
language plpgsql stable
as $$
declare
    relation regclass;
    unknown text;
begin
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
    -- Looked up rather than left to the parser, which would take t."row_to_json"
    -- for a function call.
    select name into unknown
    from unnest(p_columns) as name
    where not exists (
        select from pg_attribute
        where attrelid = relation and attname = name
            and attnum > 0 and not attisdropped
    )
    limit 1;
    if unknown is not null then
        raise undefined_column using
            message = format('column "%s" of relation "%s" does not exist', unknown, p_source),
            hint = format('Its columns are %s.', (
                select string_agg(quote_ident(attname), ', ' order by attnum)
                from pg_attribute
                where attrelid = relation and attnum > 0 and not attisdropped
            ));
    end if;
    return (
        select format(
            'select %s from %I.%I as t',
            coalesce(
                (
                    select string_agg(format('t.%I', name), ', ' order by n)
                    from unnest(p_columns) with ordinality as c (name, n)
                    where name is not null
                ),
                '*'
            ),
            nspname, relname
        )
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = relation
    );
end
$$;
comment on function compile_select is $$
The SELECT that exports p_columns (null: all) of the relation p_source.

Takes a name as in SQL, and a bare mixed-case one as well.  Every name in the
result is qualified and quoted.
$$;
