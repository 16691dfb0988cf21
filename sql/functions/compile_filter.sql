create or replace function compile_filter(p_relation regclass, p_filter jsonb)
returns text
language plpgsql stable
as $$
declare
    operators constant jsonb := '{
        "eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=",
        "like": "like", "ilike": "ilike", "in": "in", "notIn": "not in",
        "between": "between", "isNull": "is null", "notNull": "is not null"
    }';
    op text := p_filter ->> 'op';
    operator text := operators ->> op;
    value jsonb := p_filter -> 'value';
    elements integer;
    name text;
    type_cast text;
    is_text boolean;
    literals text[];
begin
    if jsonb_typeof(p_filter) is distinct from 'object'
        or jsonb_typeof(p_filter -> 'column') is distinct from 'string'
        or p_filter - '{column,op,value}'::text[] <> '{}'
    then
        raise invalid_parameter_value using
            message = format('%s is not a filter', p_filter),
            hint = 'A filter is {"column": "...", "op": "...", "value": "..."}.';
    end if;
    if operator is null then
        raise invalid_parameter_value using
            message = format('a filter cannot compare by "%s"', op),
            hint = format('Operators are %s.', (
                select string_agg(key, ', ' order by key) from jsonb_object_keys(operators) as key
            ));
    end if;
    -- A literal has the type of its column, but without the modifier and the
    -- checks that only what is stored must obey: char(5) pads, a domain refuses.
    select
        format('t.%I', attname),
        '::' || case nspname
            when 'pg_catalog' then format_type(base.oid, -1)
            else format('%I.%I', nspname, base.typname)
        end,
        base.typcategory = 'S'
    into name, type_cast, is_text
    from find_column(p_relation, p_filter ->> 'column')
    join pg_type as base on base.oid = base_type(atttypid)
    join pg_namespace on pg_namespace.oid = base.typnamespace;

    if op in ('isNull', 'notNull') then
        if value is not null then
            raise invalid_parameter_value using
                message = format('%s takes no value', op);
        end if;
        return format('%s %s', name, operator);
    end if;
    if op not in ('in', 'notIn', 'between') then
        value := jsonb_build_array(value);
    elsif jsonb_typeof(value) is distinct from 'array' then
        raise invalid_parameter_value using
            message = format('%s takes a list of values', op);
    end if;
    elements := jsonb_array_length(value);
    if elements = 0 or op = 'between' and elements <> 2 then
        raise invalid_parameter_value using
            message = format(
                '%s takes %s', op,
                case op when 'between' then 'two values' else 'at least one value' end
            );
    end if;
    if exists (
        select from jsonb_array_elements(value) as element
        where jsonb_typeof(element) not in ('string', 'number', 'boolean')
    ) or value = '[null]' then
        raise invalid_parameter_value using
            message = format('the value of %s on "%s" is a text, a number or a boolean', op, p_filter ->> 'column'),
            hint = 'Ask for nulls by isNull and notNull.';
    end if;
    if op in ('like', 'ilike') then
        -- citext and others have a LIKE of their own; what is no text becomes one.
        name := name || case when is_text then '' else '::text' end;
        type_cast := '';
    end if;
    literals := array(
        select format('%L', element) || type_cast
        from jsonb_array_elements_text(value) with ordinality as _ (element, n)
        order by n
    );
    return format('%s %s %s', name, operator, case
        when op in ('in', 'notIn') then format('(%s)', array_to_string(literals, ', '))
        else array_to_string(literals, ' and ')
    end);
end
$$;
comment on function compile_filter is $$
SQL for the condition p_filter, {"column": ..., "op": ..., "value": ...}, on the
rows of p_relation, which the SQL calls t.
$$;
