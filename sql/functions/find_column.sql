create or replace function find_column(p_relation regclass, p_name text)
returns pg_attribute
language plpgsql stable
as $$
declare
    found_column pg_attribute;
begin
    -- Looked up rather than left to the parser, which would take t."row_to_json"
    -- for a function call.
    select * into found_column
    from pg_attribute
    where attrelid = p_relation and attname = p_name
        and attnum > 0 and not attisdropped;
    if not found then
        raise undefined_column using
            message = format('column "%s" of relation "%s" does not exist', p_name, p_relation),
            hint = format('Its columns are %s.', (
                select string_agg(quote_ident(attname), ', ' order by attnum)
                from pg_attribute
                where attrelid = p_relation and attnum > 0 and not attisdropped
            ));
    end if;
    return found_column;
end
$$;
comment on function find_column is $$
The column p_name of p_relation.  If there is none, an error that lists the columns.
$$;
