create or replace function compile_filters(p_relation regclass, p_filters jsonb)
returns text
language sql stable
as $$
    select string_agg(compile_filter(p_relation, one), ' and ' order by n)
    from jsonb_array_elements(
        case when jsonb_typeof(p_filters) = 'array' then p_filters end
    ) with ordinality as _ (one, n);
$$;
comment on function compile_filters is $$
SQL for the condition that all of p_filters put on the rows of p_relation, which the
SQL calls t; null if there are no filters.
$$;
