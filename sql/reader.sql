-- The functions that csv_reader owns: they let a submit find out what the reader
-- may run without becoming the reader.

create or replace function explain_as_reader(p_sql text, p_search_path text)
returns jsonb
language plpgsql
security definer
set search_path to 'pg_catalog'
as $$
declare
    plan_cursor refcursor;
    plan jsonb;
begin
    -- Only this statement sees the caller's search_path; nothing of our own
    -- is resolved through it.
    perform set_config('search_path', p_search_path, true);
    -- A cursor takes exactly one statement, and EXPLAIN runs none of it.
    begin
        open plan_cursor for execute 'explain (format json) ' || p_sql;
    exception when invalid_cursor_definition then
        raise syntax_error using
            message = 'an export is one statement, but these are several',
            hint = 'Write one SELECT.';
    end;
    perform set_config('search_path', 'pg_catalog', true);
    fetch plan_cursor into plan;
    close plan_cursor;
    return plan;
end
$$;
comment on function explain_as_reader is $$
Plan p_sql with csv_reader's rights, and return EXPLAIN's JSON.

Refuses, with PostgreSQL's own message, what the reader could not run: syntax
errors, unknown names, missing privileges, parameters, several statements.
$$;

create or replace function first_rows_as_reader(
    p_sql text, p_search_path text, p_limit integer default 10
)
returns jsonb
language plpgsql
security definer
set search_path to 'pg_catalog'
set statement_timeout to '5s'
as $$
declare
    rows_cursor refcursor;
    rows_found jsonb;
begin
    perform set_config('transaction_read_only', 'on', true);
    perform set_config('search_path', p_search_path, true);
    open rows_cursor for execute format(
        E'select jsonb_agg(to_jsonb(export)) from (select * from (\n%s\n) as q limit %s) as export',
        p_sql, p_limit
    );
    fetch rows_cursor into rows_found;
    close rows_cursor;
    return coalesce(rows_found, '[]');
end
$$;
comment on function first_rows_as_reader is $$
The first rows of p_sql, a SELECT that explain_as_reader accepted, with
csv_reader's rights; the transaction only reads from here on.
$$;

-- To own them the reader needs CREATE for a moment; the transaction hides it.
do $$
begin
    if exists (
        select from pg_proc
        where oid in ('explain_as_reader'::regproc, 'first_rows_as_reader'::regproc)
            and proowner <> 'csv_reader'::regrole
    ) then
        grant create on schema public to csv_reader;
        alter function explain_as_reader owner to csv_reader;
        alter function first_rows_as_reader owner to csv_reader;
        revoke create on schema public from csv_reader;
    end if;
end
$$;
revoke execute on function explain_as_reader, first_rows_as_reader from public;
grant execute on function explain_as_reader, first_rows_as_reader to csv_service;
