create or replace function find_relation_as(p_reader text, p_source text, p_search_path text)
returns regclass
language plpgsql stable
set search_path to public, pg_temp
as $$
declare
    relation regclass;
begin
    if p_reader = 'csv_reader' then
        return find_relation_as_reader(p_source, p_search_path);
    end if;
    execute format('select public.%I($1, $2)', function_of(p_reader, 'find_relation'))
    into relation using p_source, p_search_path;
    return relation;
end
$$;
comment on function find_relation_as is $$
Like find_relation, with the rights of p_reader.
$$;
