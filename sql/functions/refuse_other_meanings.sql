create or replace function refuse_other_meanings(p_export exports)
returns void
language plpgsql stable
set search_path to public, pg_temp
as $$
declare
    word text;
    mine text;
    its text;
begin
    if p_export.source is not null then
        word := p_export.source;
        begin
            mine := find_relation(p_export.source, p_export.search_path)::text;
        exception when insufficient_privilege then
            return;  -- it names a schema, which only the reader may use
        end;
        its := find_relation_as(p_export.reader, p_export.source, p_export.search_path)::text;
    else
        select key, quote_ident(value) || '.' || quote_ident(key),
            quote_ident(p_export.relations ->> key) || '.' || quote_ident(key)
        into word, mine, its
        from jsonb_each_text(relations_under(p_export.query, p_export.search_path))
        where value <> p_export.relations ->> key
        limit 1;
    end if;
    if mine <> its then
        raise undefined_table using
            message = format('"%s" is %s here, but %s to %s', word, mine, its, p_export.reader),
            hint = format(
                'Let %s use the schema of the first, or write the one you mean with its schema.', p_export.reader
            );
    end if;
end
$$;
comment on function refuse_other_meanings is $$
Raise an error if a name in the export means one relation to this session and another
to its reader, which may not use all schemas of the search_path.
$$;
