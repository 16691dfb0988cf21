create or replace function refuse_beyond_settings(p_export exports, p_relation regclass)
returns void
language plpgsql stable
set search_path to public, pg_temp
as $$
begin
    if p_export.query is not null then
        raise insufficient_privilege using
            message = format('%s may export relations, but no query', p_export.requested_by),
            hint = 'A query could change the settings that row-level security relies on.'
                ' Name a source, with columns, filters, an order and a limit.';
    end if;
    if (
        select nspname ~ '^pg_' or nspname = 'information_schema'
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = p_relation
    ) then
        raise insufficient_privilege using
            message = format('%s may not export the catalog %s', p_export.requested_by, p_relation),
            hint = 'Catalogs show what others do. Name a table or view.';
    end if;
end
$$;
comment on function refuse_beyond_settings is $$
Raise an error if the export, of a requester with settings, is a query, or p_relation,
which it names, is a catalog.
$$;
