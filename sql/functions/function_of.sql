create or replace function function_of(p_reader text, p_what text)
returns text
language sql immutable
return p_what || '_as_' || case p_reader when 'csv_reader' then 'reader' else p_reader end;
comment on function function_of is $$
The name of the function that does p_what with the rights of p_reader: explain,
preview or find_relation.
$$;
