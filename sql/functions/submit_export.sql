create or replace function submit_export()
returns trigger
language plpgsql
as $$
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
$$;
comment on function submit_export() is $$
-> pending: compile the request into the SELECT that will run, and refuse it
now if csv_reader could not run it, or if exports.max_pending wait already.
$$;
