-- The queue, the API and the audit trail: one table.

create type export_status as enum (
    'pending',     -- waiting for a worker
    'processing',  -- pending -> processing: a worker holds the lease
    'completed',   -- processing -> completed: the file is there, whole
    'failed',      -- processing -> failed: see error
    'cancelled'    -- pending, processing -> cancelled: somebody asked for it
);

create function percent_done(
    p_status export_status, p_rows bigint, p_estimated_rows bigint
) returns smallint
language sql immutable parallel safe
return case
    when p_status = 'completed' then 100
    when p_estimated_rows > 0 then least(99, p_rows * 100 / p_estimated_rows)
    else 0
end;
comment on function percent_done is $$
0 to 100; an estimate that proves too low waits at 99 for the end.
$$;

create table exports (
    id uuid primary key default gen_random_uuid(),
    status export_status not null default 'pending',

    -- what was asked for: a relation, perhaps some of its columns, or a query
    source text,
    columns text[],
    query text,
    -- what will run, compiled at submit
    sql_text text not null,
    estimated_rows bigint not null default 0,

    priority smallint not null default 0,
    run_at timestamptz not null default clock_timestamp(),
    max_attempts smallint not null default 3,
    requested_by text not null default session_user,

    -- who runs it: the attempt is the fencing token, and only ever grows
    attempt integer not null default 0,
    failures smallint not null default 0,
    worker text,
    lease_expires_at timestamptz,

    -- what became of it
    rows bigint not null default 0,
    bytes bigint not null default 0,
    progress smallint not null generated always as (
        percent_done(status, rows, estimated_rows)
    ) stored,
    sha256 text,
    -- derived, so that no client can name another file
    file_path text generated always as (
        case when status = 'completed'
            then id::text || '-' || attempt::text || '.csv'
        end
    ) stored,
    error jsonb,

    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    expires_at timestamptz,

    -- which function is changing the row: read, and cleared, by guard_export
    transition text,

    constraint an_export_has_a_source_or_a_query
        check ((source is null) <> (query is null)),
    constraint columns_belong_to_a_source
        check (columns is null or source is not null),
    constraint columns_are_named
        check (cardinality(columns) > 0 and array_position(columns, null) is null),
    constraint a_query_is_not_blank
        check (query ~ '\S'),
    constraint attempts_are_counted
        check (
            attempt >= 0 and failures between 0 and attempt
            and max_attempts between 1 and 100
        ),
    constraint rows_and_bytes_are_counted
        check (rows >= 0 and bytes >= 0 and estimated_rows >= 0),
    constraint only_a_processing_export_is_leased
        check (
            (status = 'processing') = (worker is not null)
            and (status = 'processing') = (lease_expires_at is not null)
        ),
    constraint a_processing_export_has_started
        check (status not in ('processing', 'completed') or started_at is not null),
    constraint only_an_ended_export_has_finished
        check ((status in ('pending', 'processing')) = (finished_at is null)),
    constraint only_a_completed_export_has_a_digest
        check ((status = 'completed') = (sha256 is not null)),
    constraint a_digest_is_a_sha256
        check (sha256 ~ '^[0-9a-f]{64}$'),
    constraint an_error_has_a_message
        check (jsonb_typeof(error -> 'message') is not distinct from 'string' or error is null),
    constraint a_failed_export_says_why
        check (status <> 'failed' or error is not null),
    constraint instants_are_of_our_calendar
        check (
            run_at between '0001-01-02' and '9999-12-30'
            and expires_at between '0001-01-02' and '9999-12-30'
        )
)
-- room on the page for heartbeats, which then touch no index
with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

comment on table exports is $$
Each row is an export: what a client asked for, and the file it became.

Insert a row to submit one, update its status to 'cancelled' to cancel it.
Everything else is done by the functions that are named for it, and refused
by hand.
$$;

create index exports_to_claim on exports (priority desc, run_at, id)
where status = 'pending';
comment on index exports_to_claim is 'serves claim_export';

create index exports_in_progress on exports (id) where status = 'processing';
comment on index exports_in_progress is 'serves rescue_exports and live_exports';

create index exports_newest on exports (created_at desc, id desc);
comment on index exports_newest is 'serves list_exports';

-- The password that migrate derives for csv_reader; no row under trust or peer.
create table reader_login (
    password text not null,
    one_row boolean primary key default true check (one_row)
);
comment on table reader_login is
'The password with which this service logs in as csv_reader. Nobody else may read it.';

insert into exports_migrations (name) values ('0001-exports');
