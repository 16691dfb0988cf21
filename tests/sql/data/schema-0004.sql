SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE TYPE public.export_status AS ENUM (
    'pending',
    'processing',
    'completed',
    'failed',
    'cancelled'
);
ALTER TYPE public.export_status OWNER TO csv_service;
CREATE FUNCTION public.after_failure(p_failures integer, p_max_attempts integer, p_transient boolean, OUT status public.export_status, OUT run_at timestamp with time zone, OUT finished_at timestamp with time zone) RETURNS record
    LANGUAGE sql
    AS $$
    select
        case when again then 'pending' else 'failed' end::export_status,
        clock_timestamp()
            + interval '1 s' * least(300, 4 ^ p_failures) * (0.5 + random() / 2),
        case when not again then clock_timestamp() end
    from (select p_transient and p_failures < p_max_attempts) as _ (again);
$$;
ALTER FUNCTION public.after_failure(p_failures integer, p_max_attempts integer, p_transient boolean, OUT status public.export_status, OUT run_at timestamp with time zone, OUT finished_at timestamp with time zone) OWNER TO csv_service;
COMMENT ON FUNCTION public.after_failure(p_failures integer, p_max_attempts integer, p_transient boolean, OUT status public.export_status, OUT run_at timestamp with time zone, OUT finished_at timestamp with time zone) IS '
Where an export goes after its p_failures-th failure: back to pending, or to
failed, because attempts are used up or p_transient is false.
It waits 4, 16, 64, 256, then 300 seconds, less up to a half by chance, so that
what failed together does not come back together.
';
CREATE FUNCTION public.announce_exports() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
    changed uuid[];
    woken boolean;
begin
    if tg_op = 'UPDATE' then
        select array_agg(id), bool_or(n.status = 'pending') into changed, woken
        from new_rows as n
        join old_rows as o using (id)
        where (n.status, n.priority, n.run_at) <> (o.status, o.priority, o.run_at);
    elsif tg_op = 'INSERT' then
        select array_agg(id), count(*) > 0 into changed, woken from new_rows;
    else
        select array_agg(id), false into changed, woken from old_rows;
    end if;
    if changed is null then
        return null;
    end if;
    perform pg_notify(
        'exports', case when cardinality(changed) = 1 then changed[1]::text else '' end
    );
    if woken then
        perform pg_notify('exports_pending', '');
    end if;
    return null;
end
$$;
ALTER FUNCTION public.announce_exports() OWNER TO csv_service;
COMMENT ON FUNCTION public.announce_exports() IS '
Notify once a statement: ''exports'' when a status, or a place in the queue,
changed, with the id if there is only one; ''exports_pending'' when there is something to claim.
It says look, never what: whoever hears it reads the rows again.
';
CREATE FUNCTION public.cancel_export(p_id uuid) RETURNS public.export_status
    LANGUAGE plpgsql
    AS $$
declare
    outcome export_status;
begin
    update exports set status = 'cancelled'
    where id = p_id and status in ('pending', 'processing');
    select status into outcome from exports where id = p_id;
    return outcome;
end
$$;
ALTER FUNCTION public.cancel_export(p_id uuid) OWNER TO csv_service;
COMMENT ON FUNCTION public.cancel_export(p_id uuid) IS '
pending, processing -> cancelled: I no longer want it.
Returns the status it has now, whatever it was; null if there is none.  The
worker hears of it and stops its COPY; its fencing token is void already.
';
CREATE FUNCTION public.check_query(p_sql text) RETURNS bigint
    LANGUAGE plpgsql
    AS $_$
declare
    path text := current_setting('search_path');
    plan jsonb := explain_as_reader(p_sql, path);
begin
    if jsonb_path_exists(plan, '$.** ? (@."Node Type" == "ModifyTable")') then
        raise feature_not_supported using
            message = 'an export only reads, but this statement writes',
            hint = 'Write one SELECT.';
    end if;
    -- Alone it is one statement; in parentheses it must be one SELECT.
    perform explain_as_reader(format(E'select * from (\n%s\n) as export', p_sql), path);
    return (plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric;
end
$_$;
ALTER FUNCTION public.check_query(p_sql text) OWNER TO csv_service;
COMMENT ON FUNCTION public.check_query(p_sql text) IS '
Refuse what is not one harmless SELECT that csv_reader may run; else return
the planner''s estimate of its rows.
';
CREATE FUNCTION public.percent_done(p_status public.export_status, p_rows bigint, p_estimated_rows bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_status = 'completed'::public.export_status) THEN (100)::bigint WHEN (p_estimated_rows > 0) THEN LEAST((99)::bigint, ((p_rows * 100) / p_estimated_rows)) ELSE (0)::bigint END;
ALTER FUNCTION public.percent_done(p_status public.export_status, p_rows bigint, p_estimated_rows bigint) OWNER TO csv_service;
COMMENT ON FUNCTION public.percent_done(p_status public.export_status, p_rows bigint, p_estimated_rows bigint) IS '
0 to 100; an estimate that proves too low waits at 99 for the end.
';
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.exports (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    status public.export_status DEFAULT 'pending'::public.export_status NOT NULL,
    source text,
    columns text[],
    query text,
    sql_text text NOT NULL,
    estimated_rows bigint DEFAULT 0 NOT NULL,
    priority smallint DEFAULT 5 NOT NULL,
    run_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    max_attempts smallint DEFAULT 5 NOT NULL,
    requested_by text DEFAULT SESSION_USER NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    failures smallint DEFAULT 0 NOT NULL,
    worker text,
    lease_expires_at timestamp with time zone,
    rows bigint DEFAULT 0 NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    progress smallint GENERATED ALWAYS AS (public.percent_done(status, rows, estimated_rows)) STORED NOT NULL,
    sha256 text,
    error jsonb,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    expires_at timestamp with time zone,
    transition text,
    history jsonb DEFAULT '[]'::jsonb NOT NULL,
    filters jsonb,
    order_by text[],
    row_limit bigint,
    format text DEFAULT 'csv'::text NOT NULL,
    compression text DEFAULT 'none'::text NOT NULL,
    profile text,
    delimiter text,
    header boolean,
    null_text text,
    quote_all boolean,
    line_ending text,
    bom boolean,
    formula_guard boolean,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    file_name text,
    idempotency_key text,
    request_digest text,
    result_columns jsonb,
    snapshot_at timestamp with time zone,
    file_path text GENERATED ALWAYS AS (
CASE
    WHEN (status = ANY (ARRAY['processing'::public.export_status, 'completed'::public.export_status])) THEN ((((((id)::text || '-'::text) || (attempt)::text) || '.'::text) || format) ||
    CASE compression
        WHEN 'gzip'::text THEN '.gz'::text
        WHEN 'zstd'::text THEN '.zst'::text
        ELSE ''::text
    END)
    ELSE NULL::text
END) STORED,
    CONSTRAINT a_delimiter_is_one_plain_character CHECK (((octet_length(delimiter) = 1) AND (delimiter !~ '[[:alnum:]\r\n"\\.]'::text))),
    CONSTRAINT a_digest_is_a_sha256 CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT a_failed_export_says_why CHECK (((status <> 'failed'::public.export_status) OR (error IS NOT NULL))),
    CONSTRAINT a_file_name_is_a_name CHECK ((file_name ~ '^[^/\\[:cntrl:]]{1,200}$'::text)),
    CONSTRAINT a_limit_is_not_negative CHECK ((row_limit >= 0)),
    CONSTRAINT a_processing_export_has_started CHECK (((status <> ALL (ARRAY['processing'::public.export_status, 'completed'::public.export_status])) OR (started_at IS NOT NULL))),
    CONSTRAINT a_query_is_not_blank CHECK ((query ~ '\S'::text)),
    CONSTRAINT an_error_has_a_message CHECK (((NOT (jsonb_typeof((error -> 'message'::text)) IS DISTINCT FROM 'string'::text)) OR (error IS NULL))),
    CONSTRAINT an_export_has_a_source_or_a_query CHECK (((source IS NULL) <> (query IS NULL))),
    CONSTRAINT an_idempotency_key_is_not_blank CHECK (((idempotency_key ~ '\S'::text) AND (length(idempotency_key) <= 255))),
    CONSTRAINT an_order_names_columns CHECK ((array_position(order_by, NULL::text) IS NULL)),
    CONSTRAINT attempts_are_counted CHECK (((attempt >= 0) AND ((failures >= 0) AND (failures <= attempt)) AND ((max_attempts >= 1) AND (max_attempts <= 100)))),
    CONSTRAINT columns_are_named CHECK (((cardinality(columns) > 0) AND (array_position(columns, NULL::text) IS NULL))),
    CONSTRAINT columns_belong_to_a_source CHECK (((columns IS NULL) OR (source IS NOT NULL))),
    CONSTRAINT filters_are_a_list CHECK ((jsonb_typeof(filters) = 'array'::text)),
    CONSTRAINT filters_order_and_limit_belong_to_a_source CHECK (((source IS NOT NULL) OR (num_nonnulls(filters, order_by, row_limit) = 0))),
    CONSTRAINT instants_are_of_our_calendar CHECK ((((run_at >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (run_at <= '9999-12-30 00:00:00+00'::timestamp with time zone)) AND ((expires_at >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (expires_at <= '9999-12-30 00:00:00+00'::timestamp with time zone)))),
    CONSTRAINT json_has_none_of_the_options_of_csv CHECK (((format = 'jsonl'::text) = (num_nulls(delimiter, header, null_text, quote_all, bom, formula_guard) = 6))),
    CONSTRAINT lines_end_with_lf_or_crlf CHECK ((line_ending = ANY (ARRAY['lf'::text, 'crlf'::text]))),
    CONSTRAINT only_a_completed_export_has_a_digest CHECK (((status = 'completed'::public.export_status) = (sha256 IS NOT NULL))),
    CONSTRAINT only_a_processing_export_is_leased CHECK ((((status = 'processing'::public.export_status) = (worker IS NOT NULL)) AND ((status = 'processing'::public.export_status) = (lease_expires_at IS NOT NULL)))),
    CONSTRAINT only_an_ended_export_has_finished CHECK (((status = ANY (ARRAY['pending'::public.export_status, 'processing'::public.export_status])) = (finished_at IS NULL))),
    CONSTRAINT only_csv_is_for_excel CHECK (((profile IS NULL) OR (format = 'csv'::text))),
    CONSTRAINT priority_is_a_digit CHECK (((priority >= 0) AND (priority <= 9))),
    CONSTRAINT rows_and_bytes_are_counted CHECK (((rows >= 0) AND (bytes >= 0) AND (estimated_rows >= 0))),
    CONSTRAINT the_compression_is_none_gzip_or_zstd CHECK ((compression = ANY (ARRAY['none'::text, 'gzip'::text, 'zstd'::text]))),
    CONSTRAINT the_format_is_csv_tsv_or_jsonl CHECK ((format = ANY (ARRAY['csv'::text, 'tsv'::text, 'jsonl'::text]))),
    CONSTRAINT the_null_text_fits_into_a_field CHECK (((null_text !~ '[\r\n"]'::text) AND (strpos(null_text, delimiter) = 0))),
    CONSTRAINT the_profile_is_excel CHECK ((profile = 'excel'::text))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01');
ALTER TABLE public.exports OWNER TO csv_service;
COMMENT ON TABLE public.exports IS '
Each row is an export: what a client asked for, and the file it became.
Insert a row to submit one, update its status to ''cancelled'' to cancel it.
Everything else is done by the functions that are named for it, and refused
by hand.
';
COMMENT ON COLUMN public.exports.history IS 'The attempts that have ended: attempt, worker, startedAt, endedAt, outcome, error.';
CREATE FUNCTION public.claim_export(p_worker text, p_lease interval, p_floors timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[], p_limit integer DEFAULT 1) RETURNS SETOF public.exports
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
    next_ids uuid[] := '{}';
begin
    for of_priority in reverse 9..0 loop
        next_ids := next_ids || array(
            select id
            from exports
            where status = 'pending'
                and priority = of_priority
                and run_at >= coalesce(p_floors[of_priority + 1], '-infinity')
                and run_at <= now()
            order by run_at, id
            limit p_limit - cardinality(next_ids)
            for update skip locked
        );
        exit when cardinality(next_ids) >= p_limit;
    end loop;
    return query
    update exports
    set transition = 'claim',
        status = 'processing',
        attempt = attempt + 1,
        worker = p_worker,
        lease_expires_at = clock_timestamp() + p_lease,
        started_at = clock_timestamp(),
        rows = 0,
        bytes = 0
    where id = any(next_ids)
    returning *;
end
$$;
ALTER FUNCTION public.claim_export(p_worker text, p_lease interval, p_floors timestamp with time zone[], p_limit integer) OWNER TO csv_service;
COMMENT ON FUNCTION public.claim_export(p_worker text, p_lease interval, p_floors timestamp with time zone[], p_limit integer) IS '
pending -> processing: I lease the next p_limit exports, oldest first within
priority.
Two callers never receive the same export.  Its attempt is my fencing token:
I present it to every later call.  Fewer rows: there is no more to claim.
p_floors[priority + 1] is the run_at of what I claimed last: nothing older was
pending then, but what was claimed since some old snapshot is still in the
index, and costs time.  I leave the floors out now and then, for exports that
returned to their old place, or committed late.
';
CREATE FUNCTION public.compile_filter(p_relation regclass, p_filter jsonb) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
declare
    operators constant jsonb := '{
        "eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=",
        "like": "like", "ilike": "ilike", "in": "in", "notIn": "not in",
        "between": "between", "isNull": "is null", "notNull": "is not null"
    }';
    op text := p_filter ->> 'op';
    operator text := operators ->> op;
    value jsonb := p_filter -> 'value';
    elements integer;
    name text;
    type text;
    literals text[];
begin
    if jsonb_typeof(p_filter) is distinct from 'object'
        or jsonb_typeof(p_filter -> 'column') is distinct from 'string'
        or p_filter - '{column,op,value}'::text[] <> '{}'
    then
        raise invalid_parameter_value using
            message = format('%s is not a filter', p_filter),
            hint = 'A filter is {"column": …, "op": …, "value": …}.';
    end if;
    if operator is null then
        raise invalid_parameter_value using
            message = format('a filter cannot compare by "%s"', op),
            hint = format('Operators are %s.', (
                select string_agg(key, ', ' order by key) from jsonb_object_keys(operators) as key
            ));
    end if;
    select format('t.%I', attname), format_type(atttypid, null)
    into name, type
    from find_column(p_relation, p_filter ->> 'column');
    if op in ('isNull', 'notNull') then
        if value is not null then
            raise invalid_parameter_value using
                message = format('%s takes no value', op);
        end if;
        return format('%s %s', name, operator);
    end if;
    if op not in ('in', 'notIn', 'between') then
        value := jsonb_build_array(value);
    elsif jsonb_typeof(value) is distinct from 'array' then
        raise invalid_parameter_value using
            message = format('%s takes a list of values', op);
    end if;
    elements := jsonb_array_length(value);
    if elements = 0 or op = 'between' and elements <> 2 then
        raise invalid_parameter_value using
            message = format(
                    '%s takes %s', op,
                    case op when 'between' then 'two values' else 'at least one value' end
                );
    end if;
    if exists (
        select from jsonb_array_elements(value) as element
        where jsonb_typeof(element) not in ('string', 'number', 'boolean')
    ) or value = '[null]' then
        raise invalid_parameter_value using
            message = format('the value of %s on "%s" is a text, a number or a boolean', op, p_filter ->> 'column'),
            hint = 'Ask for nulls by isNull and notNull.';
    end if;
    if op in ('like', 'ilike') then
        name := name || '::text';
        type := 'text';
    end if;
    -- Typed by their column, so that a bad one is refused now.
    literals := array(
        select format('%L::%s', element, type)
        from jsonb_array_elements_text(value) with ordinality as _ (element, n)
        order by n
    );
    return format('%s %s %s', name, operator, case
        when op in ('in', 'notIn') then format('(%s)', array_to_string(literals, ', '))
        else array_to_string(literals, ' and ')
    end);
end
$$;
ALTER FUNCTION public.compile_filter(p_relation regclass, p_filter jsonb) OWNER TO csv_service;
COMMENT ON FUNCTION public.compile_filter(p_relation regclass, p_filter jsonb) IS '
The condition that p_filter, {"column": …, "op": …, "value": …}, puts on the
rows of p_relation, as SQL in which the relation is t.
';
CREATE FUNCTION public.compile_filters(p_relation regclass, p_filters jsonb) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    select string_agg(compile_filter(p_relation, one), ' and ' order by n)
    from jsonb_array_elements(
        case when jsonb_typeof(p_filters) = 'array' then p_filters end
    ) with ordinality as _ (one, n);
$$;
ALTER FUNCTION public.compile_filters(p_relation regclass, p_filters jsonb) OWNER TO csv_service;
COMMENT ON FUNCTION public.compile_filters(p_relation regclass, p_filters jsonb) IS '
The condition that all of p_filters put on the rows of p_relation, as SQL in which
the relation is t; null if they are none.
';
CREATE FUNCTION public.compile_select(p_source text, p_columns text[] DEFAULT NULL::text[], p_filters jsonb DEFAULT NULL::jsonb, p_order_by text[] DEFAULT NULL::text[], p_limit bigint DEFAULT NULL::bigint) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
declare
    relation constant regclass := find_relation(p_source);
    columns text;
    conditions text;
    ordering text;
begin
    select string_agg(format('t.%I', (find_column(relation, name)).attname), ', ' order by n)
    into columns
    from unnest(p_columns) with ordinality as _ (name, n)
    where name is not null;  -- columns_are_named refuses the others
    conditions := compile_filters(relation, p_filters);
    select string_agg(
        format('t.%I', (find_column(relation, regexp_replace(name, '^-', ''))).attname)
            || case when name like '-%' then ' desc' else '' end,
        ', ' order by n
    )
    into ordering
    from unnest(p_order_by) with ordinality as _ (name, n)
    where name is not null;
    return (
        select format('select %s from %I.%I as t', coalesce(columns, '*'), nspname, relname)
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = relation
    )
        || coalesce(' where ' || conditions, '')
        || coalesce(' order by ' || ordering, '')
        || coalesce(' limit ' || p_limit, '');
end
$$;
ALTER FUNCTION public.compile_select(p_source text, p_columns text[], p_filters jsonb, p_order_by text[], p_limit bigint) OWNER TO csv_service;
COMMENT ON FUNCTION public.compile_select(p_source text, p_columns text[], p_filters jsonb, p_order_by text[], p_limit bigint) IS '
The SELECT that exports p_columns (null: all) of those rows of the relation
p_source that pass all p_filters, sorted by p_order_by ("-name": descending).
Every name in the result is qualified and quoted, every value a typed literal.
';
CREATE FUNCTION public.compile_slices(p_id uuid, OUT source text, OUT head text, OUT tail text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
    wanted exports;
    relation regclass;
begin
    select * into wanted from exports
    where id = p_id and query is null and row_limit is null
        and coalesce(cardinality(order_by), 0) = 0;
    -- Names may have come to mean something else since it was submitted.
    if not found or wanted.sql_text is distinct from compile_select(
        wanted.source, wanted.columns, wanted.filters
    ) then
        return;
    end if;
    relation := find_relation(wanted.source);
    if (select relkind from pg_class where oid = relation) not in ('r', 'p', 'm') then
        return;
    end if;
    source := (
        select format('%I.%I', nspname, relname)
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = relation
    );
    head := 'select ' || (
        select string_agg(format('t.%I', attname), ', ' order by n)
        from unnest(coalesce(wanted.columns, array(
            select attname::text from pg_attribute
            where attrelid = relation and attnum > 0 and not attisdropped
            order by attnum
        ))) with ordinality as _ (attname, n)
    ) || ' from only ';
    tail := ' as t where '
        || coalesce(compile_filters(relation, wanted.filters) || ' and ', '');
exception when others then
    -- It can be copied as a whole, or says why not.
    source := null;
end
$$;
ALTER FUNCTION public.compile_slices(p_id uuid, OUT source text, OUT head text, OUT tail text) OWNER TO csv_service;
COMMENT ON FUNCTION public.compile_slices(p_id uuid, OUT source text, OUT head text, OUT tail text) IS '
How to select a part of what p_id exports: head, a relation, tail, a condition on t.
Nulls if it has an order or a limit, is a query or no table.
';
CREATE FUNCTION public.complete_export(p_id uuid, p_attempt integer, p_rows bigint, p_bytes bigint, p_sha256 text, p_retention interval DEFAULT NULL::interval, p_columns jsonb DEFAULT NULL::jsonb, p_snapshot_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
begin
    update exports
    set transition = 'complete',
        status = 'completed',
        worker = null,
        lease_expires_at = null,
        finished_at = clock_timestamp(),
        expires_at = clock_timestamp() + p_retention,
        rows = p_rows,
        bytes = p_bytes,
        sha256 = p_sha256,
        result_columns = p_columns,
        snapshot_at = p_snapshot_at,
        error = null
    where id = p_id and attempt = p_attempt and status = 'processing';
    -- Again, because the first answer was lost on its way: it still holds.
    return found or exists (
        select from exports
        where id = p_id and attempt = p_attempt and status = 'completed'
    );
end
$$;
ALTER FUNCTION public.complete_export(p_id uuid, p_attempt integer, p_rows bigint, p_bytes bigint, p_sha256 text, p_retention interval, p_columns jsonb, p_snapshot_at timestamp with time zone) OWNER TO csv_service;
COMMENT ON FUNCTION public.complete_export(p_id uuid, p_attempt integer, p_rows bigint, p_bytes bigint, p_sha256 text, p_retention interval, p_columns jsonb, p_snapshot_at timestamp with time zone) IS '
processing -> completed: the whole file is on disk under the attempt''s name.
Its receipt has p_columns ([{"name": …, "type": …}]) as they were at
p_snapshot_at.  It is kept for p_retention, or for ever.  False if p_attempt no longer holds
the export; then the file is debris.
';
CREATE FUNCTION public.delete_export(p_id uuid) RETURNS text
    LANGUAGE sql
    AS $$
    delete from exports where id = p_id
    returning coalesce(file_path, '');
$$;
ALTER FUNCTION public.delete_export(p_id uuid) OWNER TO csv_service;
COMMENT ON FUNCTION public.delete_export(p_id uuid) IS '
The export is gone, and with it the right to run it: its worker stops.
Returns the file that it leaves behind, which is the janitor''s now; an empty
text if there was none; null if there was no such export.
';
CREATE FUNCTION public.explain_as_reader(p_sql text, p_search_path text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    AS $$
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
ALTER FUNCTION public.explain_as_reader(p_sql text, p_search_path text) OWNER TO csv_reader;
COMMENT ON FUNCTION public.explain_as_reader(p_sql text, p_search_path text) IS '
Plan p_sql with csv_reader''s rights, and return EXPLAIN''s JSON.
Refuses, with PostgreSQL''s own message, what the reader could not run: syntax
errors, unknown names, missing privileges, parameters, several statements.
';
CREATE FUNCTION public.fail_export(p_id uuid, p_attempt integer, p_error jsonb, p_transient boolean DEFAULT false) RETURNS public.export_status
    LANGUAGE sql
    AS $$
    update exports
    set transition = 'fail',
        failures = failures + 1,
        worker = null,
        lease_expires_at = null,
        error = p_error,
        (status, run_at, finished_at) = (
            select * from after_failure(failures + 1, max_attempts, p_transient)
        )
    where id = p_id and attempt = p_attempt and status = 'processing'
    returning status;
$$;
ALTER FUNCTION public.fail_export(p_id uuid, p_attempt integer, p_error jsonb, p_transient boolean) OWNER TO csv_service;
COMMENT ON FUNCTION public.fail_export(p_id uuid, p_attempt integer, p_error jsonb, p_transient boolean) IS '
processing -> failed: it went wrong, as p_error ("message", and perhaps
"sqlstate", "hint", "detail") tells.
If p_transient, processing -> pending while attempts are left, to run again
after a pause.  Returns where it went, or null if p_attempt no longer holds it.
';
CREATE FUNCTION public.find_column(p_relation regclass, p_name text) RETURNS pg_attribute
    LANGUAGE plpgsql STABLE
    AS $$
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
ALTER FUNCTION public.find_column(p_relation regclass, p_name text) OWNER TO csv_service;
COMMENT ON FUNCTION public.find_column(p_relation regclass, p_name text) IS '
The column p_name of p_relation; else an error that names those it has.
';
CREATE FUNCTION public.find_debris(p_names text[]) RETURNS TABLE(name text, known boolean)
    LANGUAGE plpgsql
    AS $$
begin
    delete from deleted_files where deleted_at < now() - interval '30 days';
    return query
    select found.name, e.id is not null or d.name is not null
    from unnest(p_names) as found (name)
    left join exports as e on e.id = substring(found.name for 36)::uuid
    left join deleted_files as d on d.name = found.name
    where e.file_path is distinct from found.name
        or (e.status = 'completed' and e.expires_at <= now());
end
$$;
ALTER FUNCTION public.find_debris(p_names text[]) OWNER TO csv_service;
COMMENT ON FUNCTION public.find_debris(p_names text[]) IS '
Those of the files p_names, `<id>-<attempt>.<ext>` each, that no export refers
to: of attempts that have ended otherwise, of expired and of deleted exports.
List the files first: then nothing that is still being written is among them.
Not known: no such export was ever here, so it may be somebody else''s.
';
CREATE FUNCTION public.find_relation(p_source text) RETURNS regclass
    LANGUAGE plpgsql STABLE
    AS $$
declare
    relation regclass;
begin
    begin
        relation := to_regclass(p_source);
    exception when invalid_name or syntax_error then
        null;  -- PostgreSQL 15 raises where later ones return null
    end;
    relation := coalesce(relation, to_regclass(quote_ident(p_source)));
    if relation is null then
        raise undefined_table using
            message = format('relation "%s" does not exist', p_source),
            hint = 'Name a table or view, with its schema if it is not on the search_path.';
    end if;
    if (select relkind from pg_class where oid = relation) not in ('r', 'p', 'v', 'm', 'f') then
        raise wrong_object_type using
            message = format('"%s" is not a table or view', p_source);
    end if;
    return relation;
end
$$;
ALTER FUNCTION public.find_relation(p_source text) OWNER TO csv_service;
COMMENT ON FUNCTION public.find_relation(p_source text) IS '
The table or view that p_source names: as in SQL, or bare in mixed case.
';
CREATE FUNCTION public.first_rows_as_reader(p_sql text, p_search_path text, p_limit integer DEFAULT 10) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    SET statement_timeout TO '5s'
    AS $$
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
ALTER FUNCTION public.first_rows_as_reader(p_sql text, p_search_path text, p_limit integer) OWNER TO csv_reader;
COMMENT ON FUNCTION public.first_rows_as_reader(p_sql text, p_search_path text, p_limit integer) IS '
The first rows of p_sql, a SELECT that explain_as_reader accepted, with
csv_reader''s rights; the transaction only reads from here on.
';
CREATE FUNCTION public.guard_export() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
    by_hand text[];
    derived constant text[] := '{progress,file_path}';
begin
    if new.transition is null then
        if new.status = 'cancelled' and old.status in ('pending', 'processing') then
            by_hand := '{status}';
        elsif new.status = old.status and old.status = 'pending' then
            by_hand := '{priority,run_at,max_attempts}';
        elsif new.status = old.status and old.status <> 'processing' then
            by_hand := '{expires_at}';
        else
            raise object_not_in_prerequisite_state using
                message = format(
                    'export %s is %s: it %s', old.id, old.status,
                    case new.status
                        when 'cancelled' then 'can no longer be cancelled'
                        when old.status then 'cannot be changed by hand'
                        else 'cannot be made ' || new.status || ' by hand'
                    end
                ),
                hint = case
                    when old.status in ('pending', 'processing')
                        then 'It can be cancelled: select cancel_export(id).'
                    when old.status in ('failed', 'cancelled')
                        then 'It can be started again: select retry_export(id).'
                    else 'It has ended. Submit a new one.'
                end;
        end if;
        if to_jsonb(new) - by_hand - derived
            <> to_jsonb(old) - by_hand - derived
        then
            raise object_not_in_prerequisite_state using
                message = format(
                    'export %s is %s: only %s can be changed by hand',
                    old.id, old.status, array_to_string(by_hand, ', ')
                ),
                hint = 'To ask for something else, submit a new export.';
        end if;
    elsif (new.transition, old.status, new.status) not in (
        ('claim', 'pending', 'processing'),
        ('heartbeat', 'processing', 'processing'),
        ('complete', 'processing', 'completed'),
        ('fail', 'processing', 'failed'),
        ('fail', 'processing', 'pending'),
        ('rescue', 'processing', 'failed'),
        ('rescue', 'processing', 'pending'),
        ('release', 'processing', 'pending'),
        ('retry', 'failed', 'pending'),
        ('retry', 'cancelled', 'pending')
    ) or new.attempt <> old.attempt + (new.transition = 'claim')::int
    then
        raise object_not_in_prerequisite_state using
            message = format(
                '%s cannot take an export from %s to %s', new.transition, old.status, new.status
            );
    end if;
    if old.status = 'processing' and new.status <> 'processing' then
        new.history := old.history || jsonb_strip_nulls(jsonb_build_object(
            'attempt', old.attempt,
            'worker', old.worker,
            'startedAt', old.started_at,
            'endedAt', clock_timestamp(),
            'outcome', case new.transition
                when 'complete' then 'completed'
                when 'fail' then 'failed'
                when 'rescue' then 'lost'
                when 'release' then 'released'
                else 'cancelled'
            end,
            'error', case when new.transition in ('fail', 'rescue') then new.error end
        ));
    end if;
    new.transition := null;
    if new.status = 'cancelled' and old.status <> 'cancelled' then
        new.worker := null;
        new.lease_expires_at := null;
        new.finished_at := clock_timestamp();
    elsif new.status = 'pending' and old.status <> 'pending' then
        new.rows := 0;
        new.bytes := 0;
        new.started_at := null;
        new.finished_at := null;
    end if;
    return new;
end
$$;
ALTER FUNCTION public.guard_export() OWNER TO csv_service;
COMMENT ON FUNCTION public.guard_export() IS '
Let only the transitions of the state diagram through.
The functions announce themselves in the column transition, which I clear.  By
hand, an UPDATE to ''cancelled'' is honoured as a cancel, a pending export may be
rescheduled, and an ended one may be kept longer or shorter.  When an attempt
ends I write down how.
';
CREATE FUNCTION public.heartbeat_export(p_id uuid, p_attempt integer, p_lease interval, p_rows bigint, p_bytes bigint, p_estimated_rows bigint DEFAULT NULL::bigint) RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$
    update exports
    set transition = 'heartbeat',
        lease_expires_at = now() + p_lease,
        rows = p_rows,
        bytes = p_bytes,
        estimated_rows = coalesce(p_estimated_rows, estimated_rows)
    where id = p_id and attempt = p_attempt and status = 'processing'
    returning lease_expires_at;
$$;
ALTER FUNCTION public.heartbeat_export(p_id uuid, p_attempt integer, p_lease interval, p_rows bigint, p_bytes bigint, p_estimated_rows bigint) OWNER TO csv_service;
COMMENT ON FUNCTION public.heartbeat_export(p_id uuid, p_attempt integer, p_lease interval, p_rows bigint, p_bytes bigint, p_estimated_rows bigint) IS '
processing -> processing: I am alive, and this is how far I came, and perhaps,
better than the planner knew, of how many rows.
Returns when the lease will end, or null if p_attempt no longer holds the
export: it was cancelled, rescued or deleted.  On null I stop at once; I own
nothing.
';
CREATE VIEW public.live_exports AS
 WITH places AS MATERIALIZED (
         SELECT exports.id,
            row_number() OVER (ORDER BY exports.priority DESC, exports.run_at, exports.id) AS place
           FROM public.exports
          WHERE ((exports.status = 'pending'::public.export_status) AND (exports.run_at <= now()))
          ORDER BY exports.priority DESC, exports.run_at, exports.id
         LIMIT 100
        )
 SELECT e.id,
    e.status,
        CASE
            WHEN (e.status = 'pending'::public.export_status) THEN ( SELECT places.place
               FROM places
              WHERE (places.id = e.id))
            ELSE NULL::bigint
        END AS place,
    e.source,
    e.columns,
    e.filters,
    e.order_by,
    e.row_limit,
    e.query,
    e.format,
    e.compression,
    e.profile,
    e.delimiter,
    e.header,
    e.null_text,
    e.quote_all,
    e.line_ending,
    e.bom,
    e.formula_guard,
    e.time_zone,
    e.file_name,
    e.idempotency_key,
    e.request_digest,
    e.sql_text,
    e.estimated_rows,
    e.priority,
    e.run_at,
    e.max_attempts,
    e.requested_by,
    e.attempt,
    e.failures,
    e.worker,
    e.lease_expires_at,
    l.rows,
    l.bytes,
    public.percent_done(e.status, l.rows, e.estimated_rows) AS progress,
    e.sha256,
    e.result_columns,
    e.snapshot_at,
    e.file_path,
    e.error,
    e.history,
    e.created_at,
    e.started_at,
    e.finished_at,
    e.expires_at,
    (round(((l.rows)::numeric / t.seconds)))::bigint AS rows_per_second,
        CASE
            WHEN ((e.status = 'processing'::public.export_status) AND (l.rows > 0)) THEN (round((((GREATEST((0)::bigint, (e.estimated_rows - l.rows)))::numeric * t.seconds) / (l.rows)::numeric)))::bigint
            ELSE NULL::bigint
        END AS eta_seconds
   FROM (((public.exports e
     LEFT JOIN LATERAL ( SELECT sum((COALESCE(pg_stat_progress_copy.tuples_processed, (0)::bigint) + told.rows)) AS rows,
            sum((COALESCE(pg_stat_progress_copy.bytes_processed, (0)::bigint) + (told.kib * 1024))) AS bytes
           FROM ((pg_stat_activity
             LEFT JOIN pg_stat_progress_copy USING (pid))
             CROSS JOIN LATERAL ( SELECT ((('x'::text || lpad(split_part(pg_stat_activity.application_name, ' '::text, 3), 16, '0'::text)))::bit(64))::bigint AS int8,
                    ((('x'::text || lpad(split_part(pg_stat_activity.application_name, ' '::text, 4), 16, '0'::text)))::bit(64))::bigint AS int8) told(rows, kib))
          WHERE ((e.status = 'processing'::public.export_status) AND starts_with(pg_stat_activity.application_name, ('export '::text || e.id)))) running ON (true))
     CROSS JOIN LATERAL ( SELECT GREATEST(e.rows, (running.rows)::bigint) AS rows,
            GREATEST(e.bytes, (running.bytes)::bigint) AS bytes) l)
     CROSS JOIN LATERAL ( SELECT NULLIF(EXTRACT(epoch FROM (COALESCE(e.finished_at, clock_timestamp()) - e.started_at)), (0)::numeric) AS seconds) t);
ALTER TABLE public.live_exports OWNER TO csv_service;
COMMENT ON VIEW public.live_exports IS '
The exports, with rows and bytes as of this moment rather than of the last
heartbeat, and with the place in the queue of the first hundred.  Rows and bytes come from pg_stat_progress_copy, which shows a COPY to members
of the role that runs it: csv_service, superusers, and whom they add.
';
CREATE FUNCTION public.list_exports(p_limit integer, p_status public.export_status DEFAULT NULL::public.export_status, p_source text DEFAULT NULL::text, p_requested_by text DEFAULT NULL::text, p_created_from timestamp with time zone DEFAULT NULL::timestamp with time zone, p_created_until timestamp with time zone DEFAULT NULL::timestamp with time zone, p_before_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_before_id uuid DEFAULT NULL::uuid) RETURNS SETOF public.live_exports
    LANGUAGE sql STABLE
    AS $$
    select * from live_exports
    where (p_status is null or status = p_status)
        and (p_source is null or source = p_source)
        and (p_requested_by is null or requested_by = p_requested_by)
        and (p_created_from is null or created_at >= p_created_from)
        and (p_created_until is null or created_at < p_created_until)
        and (p_before_at is null or (created_at, id) < (p_before_at, p_before_id))
    order by created_at desc, id desc
    limit p_limit;
$$;
ALTER FUNCTION public.list_exports(p_limit integer, p_status public.export_status, p_source text, p_requested_by text, p_created_from timestamp with time zone, p_created_until timestamp with time zone, p_before_at timestamp with time zone, p_before_id uuid) OWNER TO csv_service;
COMMENT ON FUNCTION public.list_exports(p_limit integer, p_status public.export_status, p_source text, p_requested_by text, p_created_from timestamp with time zone, p_created_until timestamp with time zone, p_before_at timestamp with time zone, p_before_id uuid) IS '
A page of exports, newest first: those before (p_before_at, p_before_id), the
last of the page before.  Nulls restrict nothing.
';
CREATE FUNCTION public.next_export_in() RETURNS interval
    LANGUAGE sql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
    select min(next.run_at) - now()
    from generate_series(0, 9) as of_priority
    cross join lateral (
        select run_at
        from exports
        where status = 'pending' and priority = of_priority and run_at > now()
        order by run_at
        limit 1
    ) as next;
$$;
ALTER FUNCTION public.next_export_in() OWNER TO csv_service;
COMMENT ON FUNCTION public.next_export_in() IS '
How long until a pending export is due that is not yet; null if there is none.
';
CREATE FUNCTION public.preview_export(p_source text DEFAULT NULL::text, p_columns text[] DEFAULT NULL::text[], p_filters jsonb DEFAULT NULL::jsonb, p_order_by text[] DEFAULT NULL::text[], p_limit bigint DEFAULT NULL::bigint, p_query text DEFAULT NULL::text, OUT sql_text text, OUT estimated_rows bigint, OUT first_rows jsonb) RETURNS record
    LANGUAGE plpgsql
    AS $$
begin
    begin
        insert into exports (source, columns, filters, order_by, row_limit, query)
        values (p_source, p_columns, p_filters, p_order_by, p_limit, p_query)
        returning exports.sql_text, exports.estimated_rows
        into preview_export.sql_text, preview_export.estimated_rows;
        raise exception using errcode = 'P0DRY';
    exception when sqlstate 'P0DRY' then
        null;  -- the insert is undone; variables keep what it returned
    end;
    first_rows := first_rows_as_reader(sql_text, current_setting('search_path'));
end
$$;
ALTER FUNCTION public.preview_export(p_source text, p_columns text[], p_filters jsonb, p_order_by text[], p_limit bigint, p_query text, OUT sql_text text, OUT estimated_rows bigint, OUT first_rows jsonb) OWNER TO csv_service;
COMMENT ON FUNCTION public.preview_export(p_source text, p_columns text[], p_filters jsonb, p_order_by text[], p_limit bigint, p_query text, OUT sql_text text, OUT estimated_rows bigint, OUT first_rows jsonb) IS '
What an INSERT of the same values would export: the SELECT, the planner''s
estimate of its rows, and the first of them.  Stores nothing.
';
CREATE FUNCTION public.queue_depth(OUT pending bigint, OUT processing bigint, OUT oldest_seconds double precision) RETURNS record
    LANGUAGE sql STABLE
    AS $$
    select
        (select count(*) from exports where status = 'pending'),
        (select count(*) from exports where status = 'processing'),
        coalesce(
            (
                select extract(epoch from now() - min(next.run_at))
                from generate_series(0, 9) as of_priority
                cross join lateral (
                    select run_at
                    from exports
                    where status = 'pending' and priority = of_priority and run_at <= now()
                    order by run_at
                    limit 1
                ) as next
            ),
            0
        );
$$;
ALTER FUNCTION public.queue_depth(OUT pending bigint, OUT processing bigint, OUT oldest_seconds double precision) OWNER TO csv_service;
COMMENT ON FUNCTION public.queue_depth(OUT pending bigint, OUT processing bigint, OUT oldest_seconds double precision) IS '
How many exports wait and run, and how long the one that waits longest has been due.
';
CREATE FUNCTION public.release_export(p_id uuid, p_attempt integer) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
begin
    update exports
    set transition = 'release',
        status = 'pending',
        worker = null,
        lease_expires_at = null
    where id = p_id and attempt = p_attempt and status = 'processing';
    return found;
end
$$;
ALTER FUNCTION public.release_export(p_id uuid, p_attempt integer) OWNER TO csv_service;
COMMENT ON FUNCTION public.release_export(p_id uuid, p_attempt integer) IS '
processing -> pending: I am shutting down and hand it back, in its old place.
It does not count as a failure.  False if p_attempt no longer holds it.
';
CREATE FUNCTION public.remember_files() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    insert into deleted_files (name)
    select file_path from old_rows where file_path is not null
    on conflict do nothing;
    return null;
end
$$;
ALTER FUNCTION public.remember_files() OWNER TO csv_service;
COMMENT ON FUNCTION public.remember_files() IS '
Note which files the deleted exports leave behind.
';
CREATE FUNCTION public.rescue_exports() RETURNS SETOF public.exports
    LANGUAGE sql
    AS $$
    update exports
    set transition = 'rescue',
        failures = failures + 1,
        worker = null,
        lease_expires_at = null,
        error = jsonb_build_object(
            'message',
            format('the lease of attempt %s ran out: worker %s was lost', attempt, worker)
        ),
        (status, run_at, finished_at) = (
            select * from after_failure(failures + 1, max_attempts, true)
        )
    where id in (
        select id from exports
        where status = 'processing' and lease_expires_at < now()
        for update skip locked
    )
    returning *;
$$;
ALTER FUNCTION public.rescue_exports() OWNER TO csv_service;
COMMENT ON FUNCTION public.rescue_exports() IS '
processing -> pending, or failed once its attempts are used up: every export
whose lease ran out.  Returns them as they are now.  Anybody may call it.
';
CREATE FUNCTION public.retry_export(p_id uuid) RETURNS public.export_status
    LANGUAGE plpgsql
    AS $$
declare
    outcome export_status;
begin
    update exports
    set transition = 'retry',
        status = 'pending',
        failures = 0,
        run_at = clock_timestamp(),
        error = null,
        expires_at = null
    where id = p_id and status in ('failed', 'cancelled');
    select status into outcome from exports where id = p_id;
    return outcome;
end
$$;
ALTER FUNCTION public.retry_export(p_id uuid) OWNER TO csv_service;
COMMENT ON FUNCTION public.retry_export(p_id uuid) IS '
failed, cancelled -> pending: I want it after all, with all its attempts.
Returns the status it has now, whatever it was; null if there is none.
';
CREATE FUNCTION public.submit_export() RETURNS trigger
    LANGUAGE plpgsql
    AS $_$
declare
    max_pending bigint;
begin
    if (
        new.status, new.attempt, new.failures, new.rows, new.bytes
    ) is distinct from ('pending'::export_status, 0, 0::smallint, 0::bigint, 0::bigint)
        or num_nonnulls(
            new.worker, new.lease_expires_at, new.sha256, new.error,
            new.started_at, new.finished_at, new.expires_at,
            new.result_columns, new.snapshot_at
        ) > 0
        or new.history <> '[]'
    then
        raise check_violation using
            message = 'an export starts as pending, with nothing done yet',
            hint = 'Insert only what you ask for: source and columns, or query; priority, run_at, max_attempts.';
    end if;
    max_pending := nullif(current_setting('exports.max_pending', true), '');
    if max_pending is not null and exists (
        select from exports where status = 'pending' offset max_pending - 1 limit 1
    ) then
        raise configuration_limit_exceeded using
            message = format('%s exports are waiting already', max_pending),
            hint = 'Submit it again when some of them are done.';
    end if;
    new.created_at := clock_timestamp();
    -- The past means now: so the exports of one statement have a place each.
    new.run_at := greatest(new.run_at, new.created_at);
    if new.source is null and new.query is null then
        new.source := coalesce(
            nullif(current_setting('exports.default_source', true), ''), 'users'
        );
    end if;
    if new.format is distinct from 'jsonl' then
        new.delimiter := coalesce(new.delimiter, case new.format when 'tsv' then E'\t' else ',' end);
        new.header := coalesce(new.header, true);
        new.null_text := coalesce(new.null_text, '');
        new.quote_all := coalesce(new.quote_all, false);
        new.bom := coalesce(new.bom, new.profile = 'excel', false);
        new.formula_guard := coalesce(new.formula_guard, new.profile = 'excel', false);
    end if;
    new.line_ending := coalesce(
        new.line_ending, case new.profile when 'excel' then 'crlf' else 'lf' end
    );
    perform now() at time zone new.time_zone;  -- is there such a one?
    if new.query is null then
        new.sql_text := compile_select(
            new.source, new.columns, new.filters, new.order_by, new.row_limit
        );
        new.estimated_rows := (
            explain_as_reader(new.sql_text, 'pg_catalog') -> 0 -> 'Plan' ->> 'Plan Rows'
        )::numeric;
    elsif new.query ~ '\S' then
        new.sql_text := regexp_replace(new.query, ';\s*$', '');
        new.estimated_rows := check_query(new.sql_text);
    else
        new.sql_text := '';  -- a_query_is_not_blank refuses it
    end if;
    return new;
end
$_$;
ALTER FUNCTION public.submit_export() OWNER TO csv_service;
COMMENT ON FUNCTION public.submit_export() IS '
-> pending: compile the request into the SELECT that will run, and refuse it
now if csv_reader could not run it, or if exports.max_pending wait already.
';
CREATE FUNCTION public.watch_exports(p_ids uuid[], p_running boolean, p_waiting boolean, p_since timestamp with time zone) RETURNS SETOF public.live_exports
    LANGUAGE sql STABLE
    AS $$
    select * from live_exports
    where id in (
        select unnest(p_ids)
        union all
        select id from exports where p_running and status = 'processing'
        union all
        (
            select id from exports
            where p_waiting and status = 'pending'
            order by priority desc, run_at, id
            limit 100
        )
        union all
        select id
        from (
            select id, finished_at from exports
            where p_since is not null
            order by created_at desc, id desc
            limit 1000
        ) as newest
        where finished_at >= p_since
    )
    order by created_at;
$$;
ALTER FUNCTION public.watch_exports(p_ids uuid[], p_running boolean, p_waiting boolean, p_since timestamp with time zone) OWNER TO csv_service;
COMMENT ON FUNCTION public.watch_exports(p_ids uuid[], p_running boolean, p_waiting boolean, p_since timestamp with time zone) IS '
The exports p_ids, and if asked for what is running, the first hundred that are
waiting, and those of the newest thousand that have ended since p_since.
';
CREATE TABLE public.deleted_files (
    name text NOT NULL,
    deleted_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.deleted_files OWNER TO csv_service;
COMMENT ON TABLE public.deleted_files IS 'Files whose export was deleted; find_debris hands them to the janitor.';
CREATE TABLE public.exports_migrations (
    name text NOT NULL,
    digest text,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.exports_migrations OWNER TO csv_service;
COMMENT ON TABLE public.exports_migrations IS '
Each applied file of sql/migrations, and "functions": the digest of everything
that is replaced when it changes.
';
CREATE TABLE public.reader_login (
    password text NOT NULL,
    one_row boolean DEFAULT true NOT NULL,
    CONSTRAINT reader_login_one_row_check CHECK (one_row)
);
ALTER TABLE public.reader_login OWNER TO csv_service;
COMMENT ON TABLE public.reader_login IS 'The password with which this service logs in as csv_reader. Nobody else may read it.';
CREATE VIEW public.sources AS
 SELECT ((c.oid)::regclass)::text AS source,
        CASE c.relkind
            WHEN 'r'::"char" THEN 'table'::text
            WHEN 'p'::"char" THEN 'partitioned table'::text
            WHEN 'v'::"char" THEN 'view'::text
            WHEN 'm'::"char" THEN 'materialized view'::text
            WHEN 'f'::"char" THEN 'foreign table'::text
            ELSE NULL::text
        END AS kind,
    obj_description(c.oid, 'pg_class'::name) AS comment,
    (COALESCE(size.rows, (0)::real))::bigint AS estimated_rows,
    (COALESCE(size.bytes, (0)::numeric))::bigint AS bytes,
    ( SELECT jsonb_agg(jsonb_build_object('name', pg_attribute.attname, 'type', format_type(pg_attribute.atttypid, pg_attribute.atttypmod), 'nullable', (NOT pg_attribute.attnotnull), 'comment', col_description(pg_attribute.attrelid, (pg_attribute.attnum)::integer)) ORDER BY pg_attribute.attnum) AS jsonb_agg
           FROM pg_attribute
          WHERE ((pg_attribute.attrelid = c.oid) AND (pg_attribute.attnum > 0) AND (NOT pg_attribute.attisdropped) AND has_column_privilege('csv_reader'::name, pg_attribute.attrelid, pg_attribute.attnum, 'select'::text))) AS columns
   FROM ((pg_class c
     JOIN pg_namespace n ON ((n.oid = c.relnamespace)))
     CROSS JOIN LATERAL ( SELECT sum(GREATEST(part.reltuples, (0)::real)) AS rows,
            sum(pg_table_size((part.oid)::regclass)) AS bytes
           FROM pg_class part
          WHERE (part.oid = ANY (
                CASE c.relkind
                    WHEN 'p'::"char" THEN ARRAY( SELECT (pg_partition_tree.relid)::oid AS relid
                       FROM pg_partition_tree((c.oid)::regclass) pg_partition_tree(relid, parentrelid, isleaf, level)
                      WHERE pg_partition_tree.isleaf)
                    ELSE ARRAY[c.oid]
                END))) size)
  WHERE ((c.relkind = ANY (ARRAY['r'::"char", 'p'::"char", 'v'::"char", 'm'::"char", 'f'::"char"])) AND (NOT c.relispartition) AND (n.nspname <> ALL (ARRAY['pg_catalog'::name, 'information_schema'::name])) AND (n.nspname !~ '^pg_(toast|temp)'::text) AND has_schema_privilege('csv_reader'::name, n.oid, 'usage'::text) AND has_any_column_privilege('csv_reader'::name, c.oid, 'select'::text));
ALTER TABLE public.sources OWNER TO csv_service;
COMMENT ON VIEW public.sources IS '
What csv_reader may read: each relation, as an export may name it, with those
of its columns that it may read.  Rows are the planner''s estimate.
';
CREATE TABLE public.users (
    id bigint NOT NULL,
    name text NOT NULL,
    email text NOT NULL,
    country text NOT NULL,
    city text,
    bio text,
    balance numeric(12,2) NOT NULL,
    is_active boolean NOT NULL,
    birth_date date,
    signup_at timestamp with time zone NOT NULL,
    last_login_at timestamp with time zone
);
ALTER TABLE public.users OWNER TO postgres;
COMMENT ON TABLE public.users IS 'People who do not exist, to be exported';
ALTER TABLE public.users ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.users_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
COPY public.deleted_files (name, deleted_at) FROM stdin;
\.
COPY public.exports (id, status, source, columns, query, sql_text, estimated_rows, priority, run_at, max_attempts, requested_by, attempt, failures, worker, lease_expires_at, rows, bytes, sha256, error, created_at, started_at, finished_at, expires_at, transition, history, filters, order_by, row_limit, format, compression, profile, delimiter, header, null_text, quote_all, line_ending, bom, formula_guard, time_zone, file_name, idempotency_key, request_digest, result_columns, snapshot_at) FROM stdin;
0f487073-6315-46d2-a24e-6e2d69984579	pending	\N	\N	select 1	select 1	1	5	2026-11-25 15:00:37.409284+00	5	postgres	0	0	\N	\N	0	0	\N	\N	2026-11-25 15:00:37.409284+00	\N	\N	\N	\N	[]	\N	\N	\N	csv	none	\N	,	f		f	lf	t	f	UTC	\N	\N	\N	\N	\N
95f18201-6a3f-4af7-be11-673a8b0bdffe	pending	\N	\N	select 1	select 1	1	5	2026-11-25 15:00:37.410558+00	5	postgres	0	0	\N	\N	0	0	\N	\N	2026-11-25 15:00:37.410558+00	\N	\N	\N	\N	[]	\N	\N	\N	csv	none	excel	,	t	=x	f	crlf	t	t	UTC	\N	\N	\N	\N	\N
df3169ce-75c3-4b05-8fe0-5af50ddd8424	cancelled	users	\N	\N	select * from public.users as t	100	5	2026-11-25 15:00:37.41457+00	5	postgres	0	0	\N	\N	0	0	\N	\N	2026-11-25 15:00:37.41457+00	\N	2026-11-25 15:00:37.425855+00	\N	\N	[]	\N	\N	\N	csv	none	\N	,	t		f	lf	f	f	UTC	\N	\N	\N	\N	\N
1701141f-20f7-4064-aa53-432a818f94ae	completed	users	\N	\N	select * from public.users as t	100	5	2026-11-25 15:00:37.388993+00	5	postgres	1	0	\N	\N	1	1	aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa	\N	2026-11-25 15:00:37.388993+00	2026-11-25 15:00:37.441355+00	2026-11-25 15:00:37.446018+00	\N	\N	[{"worker": "w", "attempt": 1, "endedAt": "2026-11-25T15:00:37.446873+00:00", "outcome": "completed", "startedAt": "2026-11-25T15:00:37.441355+00:00"}]	\N	\N	\N	csv	none	\N	,	t		f	lf	f	f	UTC	\N	\N	\N	\N	\N
955f995f-1df6-45b5-b758-bb23e99941aa	completed	\N	\N	select 1	select 1	1	5	2026-11-25 15:00:37.404552+00	5	postgres	1	0	\N	\N	1	1	aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa	\N	2026-11-25 15:00:37.404552+00	2026-11-25 15:00:37.443268+00	2026-11-25 15:00:37.448282+00	\N	\N	[{"worker": "w", "attempt": 1, "endedAt": "2026-11-25T15:00:37.448342+00:00", "outcome": "completed", "startedAt": "2026-11-25T15:00:37.443268+00:00"}]	\N	\N	\N	csv	none	excel	,	t		f	crlf	t	t	UTC	\N	\N	\N	\N	\N
df4c9591-59aa-451d-a12c-38cf33e43c8d	failed	\N	\N	select 1	select 1	1	5	2026-11-25 15:00:39.851557+00	5	postgres	1	1	\N	\N	0	0	\N	{"message": "x"}	2026-11-25 15:00:37.407376+00	2026-11-25 15:00:37.457965+00	2026-11-25 15:00:37.460856+00	\N	\N	[{"error": {"message": "x"}, "worker": "w", "attempt": 1, "endedAt": "2026-11-25T15:00:37.460937+00:00", "outcome": "failed", "startedAt": "2026-11-25T15:00:37.457965+00:00"}]	\N	\N	\N	jsonl	none	\N	\N	\N	\N	\N	lf	\N	\N	UTC	\N	\N	\N	\N	\N
4942375f-c1d2-4138-a43a-2fa019aa542f	processing	\N	\N	select 2	select 2	1	9	2026-11-25 15:00:37.492792+00	5	postgres	1	0	gone	2026-11-25 16:00:37.52189+00	0	0	\N	\N	2026-11-25 15:00:37.492792+00	2026-11-25 15:00:37.52189+00	\N	\N	\N	[]	\N	\N	\N	csv	none	\N	,	t		f	lf	f	f	UTC	\N	\N	\N	\N	\N
\.
COPY public.exports_migrations (name, digest, applied_at) FROM stdin;
0001-exports	\N	2026-11-25 15:00:37.16434+00
0002-nothing-lost	\N	2026-11-25 15:00:37.16434+00
0003-requests	\N	2026-11-25 15:00:37.16434+00
0004-lanes	\N	2026-11-25 15:00:37.16434+00
functions	afea24b3dcf00baa08664b832d22040c9d63230685a19ed8a019497904c59a3f	2026-11-25 15:00:37.16434+00
\.
COPY public.reader_login (password, one_row) FROM stdin;
\.
SELECT pg_catalog.setval('public.users_id_seq', 100, true);
ALTER TABLE ONLY public.deleted_files
    ADD CONSTRAINT deleted_files_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.exports
    ADD CONSTRAINT exports_idempotency_key_key UNIQUE (idempotency_key);
ALTER TABLE ONLY public.exports_migrations
    ADD CONSTRAINT exports_migrations_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.exports
    ADD CONSTRAINT exports_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.reader_login
    ADD CONSTRAINT reader_login_pkey PRIMARY KEY (one_row);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
CREATE INDEX exports_by_source ON public.exports USING btree (source, created_at DESC, id DESC);
COMMENT ON INDEX public.exports_by_source IS 'serves list_exports';
CREATE INDEX exports_in_progress ON public.exports USING btree (id) WHERE (status = 'processing'::public.export_status);
COMMENT ON INDEX public.exports_in_progress IS 'serves rescue_exports and live_exports';
CREATE INDEX exports_newest ON public.exports USING btree (created_at DESC, id DESC);
COMMENT ON INDEX public.exports_newest IS 'serves list_exports';
CREATE INDEX exports_to_claim ON public.exports USING btree (priority DESC, run_at, id) WHERE (status = 'pending'::public.export_status);
COMMENT ON INDEX public.exports_to_claim IS 'serves claim_export';
CREATE TRIGGER announce_delete AFTER DELETE ON public.exports REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.announce_exports();
CREATE TRIGGER announce_insert AFTER INSERT ON public.exports REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.announce_exports();
CREATE TRIGGER announce_update AFTER UPDATE ON public.exports REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.announce_exports();
CREATE TRIGGER guard BEFORE UPDATE ON public.exports FOR EACH ROW EXECUTE FUNCTION public.guard_export();
CREATE TRIGGER remember_files AFTER DELETE ON public.exports REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.remember_files();
CREATE TRIGGER submit BEFORE INSERT ON public.exports FOR EACH ROW EXECUTE FUNCTION public.submit_export();
GRANT ALL ON SCHEMA public TO csv_service;
REVOKE ALL ON FUNCTION public.explain_as_reader(p_sql text, p_search_path text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.explain_as_reader(p_sql text, p_search_path text) TO csv_service;
REVOKE ALL ON FUNCTION public.first_rows_as_reader(p_sql text, p_search_path text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.first_rows_as_reader(p_sql text, p_search_path text, p_limit integer) TO csv_service;
GRANT SELECT ON TABLE public.users TO csv_reader;
