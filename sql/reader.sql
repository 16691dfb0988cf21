-- The functions that csv_reader owns: they let a submit find out what the reader
-- may run without becoming the reader.  Each other reader has them too, with itself as
-- the owner: give_functions copies them.

create or replace function explain_as_reader(p_sql text, p_search_path text)
returns jsonb
language plpgsql
security definer
set search_path to 'pg_catalog'
as $$
declare
    explain constant text := E'explain (format json)\n';
    wrapped constant text := explain || E'select * from (\n' || p_sql || E'\n) as export';
    plan_cursor refcursor;
    setting text;
    plan jsonb;
    relations jsonb;
    locks bigint;
    locks_allowed constant bigint := nullif(current_setting('exports.max_locks', true), '');
begin
    begin
        -- What the reader would log in with decides what a text means.
        for setting in
            select one
            from pg_db_role_setting
            cross join unnest(setconfig) as one
            where setrole in (0, quote_ident(current_user)::regrole)
                and setdatabase in (0, (select oid from pg_database where datname = current_database()))
                and one !~ '^(search_path|role|session_authorization|log_|lock_timeout|statement_timeout)'
            order by setrole <> 0, setdatabase <> 0
        loop
            begin
                perform set_config(split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1), true);
            exception when others then
                null;  -- one that cannot be changed after login
            end;
        end loop;
        perform set_config('lock_timeout', '2s', true);
        perform set_config('search_path', p_search_path, true);
        -- Opening parses, and takes exactly one statement.  EXPLAIN runs none of it.
        open plan_cursor for execute explain || p_sql;
        close plan_cursor;
        begin
            -- In parentheses it must be one SELECT.  The alias needs a column.
            open plan_cursor for execute wrapped || ' (a)';
            fetch plan_cursor into plan;
            close plan_cursor;
        exception
            when invalid_column_reference then
                raise invalid_column_reference using
                    message = 'an export is a SELECT with at least one column';
            when syntax_error or feature_not_supported then
                -- Nicer words for what is a statement, but not a SELECT.
                open plan_cursor for execute explain || p_sql;
                fetch plan_cursor into plan;
                close plan_cursor;
                if jsonb_path_exists(plan, '$.** ? (@."Node Type" == "ModifyTable")') then
                    raise feature_not_supported using
                        message = 'an export only reads, but this statement writes',
                        hint = 'Write one SELECT.';
                end if;
                raise;
        end;
        relations := public.relations_in(p_sql);
        if locks_allowed is not null then
            select count(*) into locks
            from pg_locks
            where pid = pg_backend_pid() and locktype = 'relation';
            if locks > locks_allowed then
                raise program_limit_exceeded using
                    message = format('the export locks %s relations and indexes', locks),
                    hint = format('Not more than %s are allowed: exports.max_locks.', locks_allowed);
            end if;
        end if;
        -- Undoes the settings, and releases the locks.
        raise sqlstate 'P0END';
    exception
        when sqlstate 'P0END' then
            null;
        when invalid_cursor_definition then
            raise syntax_error using
                message = 'an export is one statement, but these are several',
                hint = 'Write one SELECT.';
        when lock_not_available then
            raise lock_not_available using
                message = 'a relation of this export is locked',
                hint = 'Something like ALTER TABLE, TRUNCATE or VACUUM FULL is at work.'
                    ' Submit it again when that is done.';
    end;
    return jsonb_build_object('plan', plan -> 0 -> 'Plan', 'relations', relations);
end
$$;
comment on function explain_as_reader is $$
Plan the SELECT p_sql as csv_reader under p_search_path.  Returns EXPLAIN's plan, and as
"relations" the schemas of the relations that words of p_sql name.

Raises PostgreSQL's own error for what csv_reader could not run: syntax errors, unknown
names, missing privileges, parameters, several statements, and anything but one SELECT
with columns.  Waits at most two seconds for a lock, and takes at most
exports.max_locks locks.
$$;

create or replace function preview_as_reader(
    p_sql text, p_search_path text, p_limit integer default 10
)
returns json
language plpgsql
security definer
set search_path to 'pg_catalog'
as $$
declare
    rows_cursor refcursor;
    rows_found json;
begin
    perform set_config('transaction_read_only', 'on', true);
    perform set_config('search_path', p_search_path, true);
    open rows_cursor for execute format(
        E'select json_agg(row_to_json(export.*)) from (select * from (\n%s\n) as q limit %s) as export',
        p_sql, p_limit
    );
    fetch rows_cursor into rows_found;
    close rows_cursor;
    return coalesce(rows_found, '[]');
end
$$;
comment on function preview_as_reader is $$
The first rows of p_sql, a SELECT that explain_as_reader accepted, with the rights of
csv_reader.  The transaction is read-only afterwards.
$$;

create or replace function find_relation_as_reader(p_source text, p_search_path text)
returns regclass
language plpgsql stable
security definer
set search_path to 'pg_catalog'
as $$
begin
    return public.find_relation(p_source, p_search_path);
end
$$;
comment on function find_relation_as_reader is $$
Like find_relation, with the rights of csv_reader.
$$;

-- To own them the reader needs CREATE for a moment; the transaction hides it.
do $$
declare
    reader_function regprocedure;
begin
    for reader_function in
        select oid from pg_proc
        where oid in (
            'explain_as_reader'::regproc, 'preview_as_reader'::regproc,
            'find_relation_as_reader'::regproc
        )
            and proowner <> 'csv_reader'::regrole
    loop
        grant create on schema public to csv_reader;
        execute format('alter function %s owner to csv_reader', reader_function);
        revoke create on schema public from csv_reader;
    end loop;
end
$$;
revoke execute on function explain_as_reader, preview_as_reader from public;
grant execute on function explain_as_reader, preview_as_reader to csv_service;
