create or replace function preview_export(
    p_source text default null,
    p_columns text[] default null,
    p_filters jsonb default null,
    p_order_by text[] default null,
    p_limit bigint default null,
    p_query text default null,
    out sql_text text,
    out estimated_rows bigint,
    out first_rows json
)
language plpgsql
as $$
declare
    path text;
    reader text;
    settings jsonb;
begin
    begin
        insert into public.exports (source, columns, filters, order_by, row_limit, query)
        values (p_source, p_columns, p_filters, p_order_by, p_limit, p_query)
        returning exports.sql_text, exports.estimated_rows, exports.search_path, exports.reader, exports.settings
        into preview_export.sql_text, preview_export.estimated_rows, path, reader, settings;
        raise exception using errcode = 'P0DRY';
    exception when sqlstate 'P0DRY' then
        null;  -- the insert is undone; variables keep what it returned
    end;
    first_rows := public.preview_as(reader, sql_text, path, settings);
end
$$;
comment on function preview_export is $$
What an INSERT of the same values would export: the SELECT, the planner's estimate of
its rows, and the first rows.  Stores nothing.
$$;
