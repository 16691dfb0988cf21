create or replace function compile_select(
    p_relation regclass,
    p_columns text[] default null,
    p_filters jsonb default null,
    p_order_by text[] default null,
    p_limit bigint default null
)
returns text
language plpgsql stable
as $$
declare
    columns text;
    conditions text;
    ordering text;
begin
    select string_agg(format('t.%I', (find_column(p_relation, name)).attname), ', ' order by n)
    into columns
    from unnest(p_columns) with ordinality as _ (name, n)
    where name is not null;  -- columns_are_named refuses the others

    conditions := compile_filters(p_relation, p_filters);

    select string_agg(
        format('t.%I', (find_column(p_relation, regexp_replace(name, '^-', ''))).attname)
            || case when name like '-%' then ' desc' else '' end,
        ', ' order by n
    )
    into ordering
    from unnest(p_order_by) with ordinality as _ (name, n)
    where name is not null;

    return (
        select format('select %s from %I.%I as t', coalesce(columns, '*'), nspname, relname)
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = p_relation
    )
        || coalesce(' where ' || conditions, '')
        || coalesce(' order by ' || ordering, '')
        || coalesce(' limit ' || p_limit, '');
end
$$;
comment on function compile_select is $$
The SELECT that exports p_columns (null: all) of the rows of p_relation that pass
all p_filters, sorted by p_order_by ("-name": descending).

All names in the result are qualified and quoted, and all values are typed literals.
$$;
