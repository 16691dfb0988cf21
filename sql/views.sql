-- What people read.

drop view if exists live_exports cascade;
create view live_exports as
select
    e.id,
    e.status,
    e.source,
    e.columns,
    e.query,
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
    e.file_path,
    e.error,
    e.history,
    e.created_at,
    e.started_at,
    e.finished_at,
    e.expires_at,
    round(l.rows / t.seconds)::bigint as rows_per_second,
    case when e.status = 'processing' and l.rows > 0 then
        round(greatest(0, e.estimated_rows - l.rows) * t.seconds / l.rows)::bigint
    end as eta_seconds
from exports as e
left join lateral (
    select sum(tuples_processed) as rows, sum(bytes_processed) as bytes
    from pg_stat_activity
    join pg_stat_progress_copy using (pid)
    where e.status = 'processing' and application_name = 'export ' || e.id
) as running on true
cross join lateral (
    select greatest(e.rows, running.rows::bigint) as rows,
        greatest(e.bytes, running.bytes::bigint) as bytes
) as l
cross join lateral (
    select nullif(
        extract(epoch from coalesce(e.finished_at, clock_timestamp()) - e.started_at), 0
    ) as seconds
) as t;
comment on view live_exports is $$
The exports, with rows and bytes as of this moment rather than of the last
heartbeat.  They come from pg_stat_progress_copy, which shows a COPY to members
of the role that runs it: csv_service, superusers, and whom they add.
$$;

create or replace function list_exports(
    p_status export_status, p_limit integer,
    p_before_at timestamptz, p_before_id uuid
)
returns setof live_exports
language sql stable
as $$
    select * from live_exports
    where (p_status is null or status = p_status)
        and (p_before_at is null or (created_at, id) < (p_before_at, p_before_id))
    order by created_at desc, id desc
    limit p_limit;
$$;
comment on function list_exports is $$
A page of exports, newest first: those before (p_before_at, p_before_id), the
last of the page before; nulls begin at the newest.
$$;
