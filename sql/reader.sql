-- The one function that csv_reader owns: it lets a submit find out what the
-- reader may run without becoming the reader.

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

-- To own it the reader needs CREATE for a moment; the transaction hides it.
do $$
begin
    if not exists (
        select from pg_proc
        where oid = 'explain_as_reader'::regproc
            and proowner = 'csv_reader'::regrole
    ) then
        grant create on schema public to csv_reader;
        alter function explain_as_reader owner to csv_reader;
        revoke create on schema public from csv_reader;
    end if;
end
$$;
revoke execute on function explain_as_reader from public;
grant execute on function explain_as_reader to csv_service;
