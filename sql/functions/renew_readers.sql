create or replace function renew_readers()
returns void
language plpgsql
set search_path to public, pg_temp
as $$
begin
    perform give_functions(name)
    from readers
    where name <> 'csv_reader' and to_regrole(quote_ident(name)) is not null;
end
$$;
comment on function renew_readers is $$
Replace the functions of all readers, after those of csv_reader have changed.
$$;
