create or replace function compile_slices(
    p_id uuid, out source text, out head text, out tail text
)
language plpgsql stable
as $$
declare
    wanted exports;
    relation regclass;
begin
    select * into wanted from exports
    where id = p_id and query is null and row_limit is null
        and coalesce(cardinality(order_by), 0) = 0;
    if not found then
        return;
    end if;
    relation := find_relation_as(wanted.reader, wanted.source, wanted.search_path);
    -- Names may have come to mean something else since it was submitted.
    if wanted.sql_text is distinct from compile_select(
        relation, wanted.columns, wanted.filters
    ) then
        return;
    end if;
    if (select relkind from pg_class where oid = relation) not in ('r', 'p', 'm') then
        return;
    end if;
    source := (
        select format('%I.%I', nspname, relname)
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = relation
    );
    head := 'select ' || (
        select string_agg(format('t.%I', attname), ', ' order by n)
        from unnest(coalesce(wanted.columns, array(
            select attname::text from pg_attribute
            where attrelid = relation and attnum > 0 and not attisdropped
            order by attnum
        ))) with ordinality as _ (attname, n)
    ) || ' from only ';
    tail := ' as t where '
        || coalesce(compile_filters(relation, wanted.filters) || ' and ', '');
exception when others then
    -- It can be copied as a whole, or says why not.
    source := null;
end
$$;
comment on function compile_slices is $$
The parts of a SELECT that exports a slice of the relation of export p_id: head, the
relation, tail, and then a condition on t.  Nulls if the export has an order or a
limit, or if it is a query or not a table.
$$;
