create or replace function prepare_export(p_wanted exports, p_is_of_session boolean)
returns exports
language plpgsql
set search_path to public, pg_temp
as $$
declare
    wanted exports := p_wanted;
    theirs requesters;
    relation regclass;
    explained jsonb;
begin
    if (
        wanted.status, wanted.attempt, wanted.failures, wanted.rows, wanted.bytes
    ) is distinct from ('pending'::export_status, 0, 0::smallint, 0::bigint, 0::bigint)
        or num_nonnulls(
            wanted.worker, wanted.lease_expires_at, wanted.sha256, wanted.error,
            wanted.started_at, wanted.finished_at, wanted.expires_at,
            wanted.result_columns, wanted.snapshot_at, wanted.transition, wanted.relations,
            wanted.turn, wanted.waits_for, wanted.max_rows, wanted.max_bytes, wanted.max_seconds,
            wanted.settings
        ) > 0
        or wanted.history <> '[]'
        or wanted.reader is distinct from 'csv_reader'
    then
        raise check_violation using
            message = 'an export starts as pending, with nothing done yet',
            hint = 'Insert only what you ask for: source and columns, or query; priority, run_at, max_attempts.';
    end if;
    if readable(wanted::text) <> wanted::text then
        raise character_not_in_repertoire using
            message = 'the request is not in UTF-8', hint = 'Set client_encoding to UTF8.';
    end if;
    wanted.requested_by := case
        when pg_has_role(session_user, 'csv_service', 'member')
            then nullif(current_setting('exports.requester', true), '')
    end;
    wanted.requested_by := coalesce(wanted.requested_by, session_user);
    theirs := check_limits(wanted.requested_by);
    wanted.max_rows := theirs.max_rows;
    wanted.max_bytes := theirs.max_bytes;
    wanted.max_seconds := theirs.max_seconds;
    wanted.priority := coalesce(wanted.priority, least(5, theirs.max_priority));
    perform check_priority(wanted.requested_by, wanted.priority);
    wanted.reader := coalesce(theirs.reader, 'csv_reader');
    wanted.settings := nullif(theirs.settings, '{}');
    wanted.created_at := clock_timestamp();
    -- A run_at in the past becomes now, so the exports of one statement differ.
    wanted.run_at := greatest(wanted.run_at, wanted.created_at);
    if wanted.source is null and wanted.query is null then
        wanted.source := coalesce(
            nullif(current_setting('exports.default_source', true), ''), 'users'
        );
    end if;
    wanted.encoding := find_encoding(wanted.encoding);
    if wanted.format is distinct from 'jsonl' then
        wanted.decimal_comma := coalesce(wanted.decimal_comma, false);
        wanted.delimiter := coalesce(
            wanted.delimiter,
            case when wanted.format = 'tsv' then E'\t' when wanted.decimal_comma then ';' else ',' end
        );
        wanted.header := coalesce(wanted.header, true);
        wanted.null_text := coalesce(wanted.null_text, '');
        wanted.quote_all := coalesce(wanted.quote_all, false);
        wanted.bom := coalesce(
            wanted.bom,
            wanted.encoding = 'UTF-16LE'
                or wanted.profile = 'excel' and wanted.header and wanted.encoding = 'UTF8',
            false
        );
        wanted.formula_guard := coalesce(wanted.formula_guard, wanted.profile = 'excel', false);
        wanted.digits_as_text := coalesce(wanted.digits_as_text, false);
    end if;
    wanted.line_ending := coalesce(
        wanted.line_ending, case wanted.profile when 'excel' then 'crlf' else 'lf' end
    );
    -- Not a CHECK, because rows of earlier versions may violate it.
    if wanted.formula_guard
        and wanted.null_text ~ E'^[=@\t]|^[-+].'
        and wanted.null_text !~* '^[-+]?([0-9]+([.,][0-9]+)*|[.,][0-9]+)(e[-+]?[0-9]+)?$'
    then
        raise check_violation using
            message = format('the text for nulls, "%s", would be taken for a formula', wanted.null_text),
            hint = 'Take another one, or no formula_guard.';
    end if;
    perform now() at time zone wanted.time_zone;  -- is there such a one?
    if wanted.query !~ '[^[:space:]]' then
        wanted.sql_text := '';
        return wanted;  -- a_query_is_not_blank refuses it
    elsif wanted.query is null then
        relation := find_relation_as(wanted.reader, wanted.source, wanted.search_path);
        wanted.sql_text := compile_select(
            relation, wanted.columns, wanted.filters, wanted.order_by, wanted.row_limit
        );
    else
        wanted.sql_text := trim_query(wanted.query);
    end if;
    if wanted.settings is not null then
        perform refuse_beyond_settings(wanted, relation);
    end if;
    explained := explain_as(wanted.reader, wanted.sql_text, wanted.search_path, wanted.settings);
    wanted.estimated_rows := least(
        (explained -> 'plan' ->> 'Plan Rows')::numeric, 9223372036854775807
    );
    if wanted.query is not null then
        wanted.relations := explained -> 'relations';
    end if;
    if p_is_of_session then
        perform refuse_other_meanings(wanted);
    end if;
    if wanted.force_quote is not null then
        perform explain_as(
            wanted.reader,
            format(
                E'select %s from (\n%s\n) as export',
                (select string_agg('export.' || quote_ident(name), ', ') from unnest(wanted.force_quote) as name),
                wanted.sql_text
            ),
            wanted.search_path,
            wanted.settings
        );
    end if;
    -- At last: meanwhile, turns go by.
    select * into wanted.waits_for, wanted.turn
    from queue_up(wanted.requested_by, wanted.priority, wanted.run_at);
    return wanted;
end
$$;
comment on function prepare_export is $$
The row that p_wanted becomes, with defaults filled in, compiled and checked; or an
error.

With p_is_of_session the search_path is that of the session, and names must mean the
same to the session and to the reader.
$$;
