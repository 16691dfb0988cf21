-- The views and functions that people read.

-- New columns go to the end: so the views and grants of others survive.
create or replace view live_exports
with (security_invoker = true) as
select
    e.id,
    e.status,
    case when e.waits_for = 'worker' then place_in_queue(e.id) end as place,
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
    percent_done(e.status, l.rows, e.estimated_rows) as progress,
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
    case when t.seconds > 0 then
        least(round(l.rows / t.seconds), 9223372036854775807)::bigint
    end as rows_per_second,
    case when e.status = 'processing' and l.rows > 0 then
        least(
            round(greatest(0, e.estimated_rows - l.rows) * greatest(0, t.seconds) / l.rows),
            9223372036854775807
        )::bigint
    end as eta_seconds,
    e.search_path,
    e.relations,
    e.encoding,
    e.force_quote,
    e.decimal_comma,
    e.line_break_text,
    e.digits_as_text,
    coalesce(e.expires_at <= now(), false) as expired,
    e.turn,
    e.waits_for,
    e.max_rows,
    e.max_bytes,
    e.max_seconds,
    e.reader,
    e.settings
from exports as e
left join lateral (
    select sum(coalesce(tuples_processed, 0) + told.rows) as rows,
        sum(coalesce(bytes_processed, 0) + told.kib * 1024) as bytes
    from pg_stat_activity
    left join pg_stat_progress_copy using (pid)
    -- The figures of its lanes follow the name, in hexadecimal.  Any session can
    -- write anything there.
    cross join lateral (
        select
            ('x' || lpad(coalesce(found[1], ''), 16, '0'))::bit(64)::bigint,
            ('x' || lpad(coalesce(found[2], ''), 16, '0'))::bit(64)::bigint
        from (
            select regexp_match(application_name, '^export [-0-9a-f]{36} ([0-9a-f]{1,12}) ([0-9a-f]{1,12})$')
        ) as _ (found)
    ) as told (rows, kib)
    where e.status = 'processing'
        and starts_with(application_name, 'export ' || e.id)
) as running on true
cross join lateral (
    select least(greatest(e.rows, running.rows), 9223372036854775807)::bigint as rows,
        least(greatest(e.bytes, running.bytes), 9223372036854775807)::bigint as bytes
) as l
cross join lateral (
    select extract(
        epoch from coalesce(e.finished_at, clock_timestamp()) - e.started_at
    ) as seconds
) as t;
comment on view live_exports is $$
The exports that you may see, with the rows and bytes of this moment instead of the last heartbeat, and
with the place in the queue of the first hundred.  Rows and bytes come from
pg_stat_progress_copy, which shows a COPY only to superusers and to members of the role
that runs it, such as csv_service.
$$;

create or replace function list_exports(
    p_limit integer,
    p_status export_status default null,
    p_source text default null,
    p_requested_by text default null,
    p_created_from timestamptz default null,
    p_created_until timestamptz default null,
    p_before_at timestamptz default null,
    p_before_id uuid default null
)
returns setof live_exports
language sql stable
as $$
    select * from live_exports
    where (p_status is null or status = p_status)
        and (p_source is null or source = p_source)
        and (p_requested_by is null or requested_by = p_requested_by)
        -- Bounds of an index, also where the planner does not know the value.
        and created_at >= coalesce(p_created_from, '-infinity')
        and created_at < coalesce(p_created_until, 'infinity')
        and (created_at, id) < (
            coalesce(p_before_at, 'infinity'),
            coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        )
    order by created_at desc, id desc
    limit p_limit;
$$;
comment on function list_exports is $$
A page of exports, newest first, after the export (p_before_at, p_before_id), the last
of the page before.  A null argument restricts nothing.
$$;

create or replace function watch_exports(
    p_ids uuid[], p_running boolean, p_waiting boolean, p_since timestamptz
)
returns setof live_exports
language sql stable
as $$
    select * from live_exports
    where id = any(array(
        select unnest(p_ids)
        union all
        select id from exports where p_running and status = 'processing'
        union all
        (
            select id from exports
            where p_waiting and waits_for = 'worker'
            order by priority desc, turn, id
            limit 100
        )
        union all
        (
            select id from exports
            where p_waiting and waits_for = 'time'
            order by run_at
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
    ))
    order by created_at;
$$;
comment on function watch_exports is $$
The exports p_ids; if asked for, those that are running, the first hundred that wait for
a worker, and the first hundred that wait for their time; and those of the newest thousand that ended after p_since.
$$;

create or replace view sources as
select source, kind, comment collate "C" as comment, estimated_rows, bytes, columns
from sources_of((select reader from reader_of(session_user)));
comment on view sources is $$
What the reader of this session's user may read: csv_reader, unless the user is a
requester with another one.  See sources_of.
$$;

create or replace view live_keys as
select
    k.id,
    k.requester,
    k.digest,
    k.scopes,
    k.label,
    k.made_by,
    k.replaced_by,
    k.created_at,
    k.expires_at,
    k.last_used_at,
    k.revoked_at
from requester_keys as k
left join requester_keys as maker on maker.id = k.made_by
where num_nonnulls(k.revoked_at, maker.revoked_at) = 0
    and coalesce(least(k.expires_at, maker.expires_at) > now(), true);
comment on view live_keys is $$
The keys that are accepted now.  One that was made by another ends with it.
$$;

create or replace view live_links as
select
    l.id,
    l.export,
    l.digest,
    l.made_by,
    l.made_with,
    l.created_at,
    l.expires_at,
    l.last_used_at,
    l.revoked_at
from export_links as l
join exports as e on e.id = l.export
left join requester_keys as k on k.id = l.made_with
where num_nonnulls(l.revoked_at, k.revoked_at) = 0
    and l.expires_at > now()
    and e.status = 'completed'
    and coalesce(e.expires_at > now(), true);
comment on view live_links is $$
The links that lead to a file now.  A link ends with its file, and when the key with
which it was made is revoked.
$$;

-- A barrier, so that a function in somebody's condition sees no other rows.
create or replace view activity with (security_barrier) as
select at, id, action, requester, actor, key_id, address, export, bytes, detail
from activities
where requester = session_user
    or actor = session_user
    or pg_has_role(session_user, 'csv_service', 'member')
    or pg_has_role(session_user, to_regrole('csv_admin'), 'member');
comment on view activity is $$
What was done with the exports and keys of whoever asks, and what they did.  Members of
csv_service and csv_admin see the whole log.
$$;
