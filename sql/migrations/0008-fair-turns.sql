-- Fair turns: whose export is next, and how much each requester may have.

alter table requesters
    add weight smallint not null default 1,
    add max_running integer,
    add max_pending integer,
    add max_priority smallint,
    add max_rows bigint,
    add max_bytes bigint,
    add max_bytes_a_day bigint,
    add max_seconds integer,
    add max_previews_a_minute integer,
    add max_requests_a_minute integer,
    add constraint a_weight_is_from_1_to_1000 check (weight between 1 and 1000),
    add constraint limits_are_not_negative check (
        least(
            max_running, max_pending, max_rows, max_bytes, max_bytes_a_day,
            max_previews_a_minute
        ) >= 0
    ),
    add constraint a_second_and_a_request_are_the_least
        check (least(max_seconds, max_requests_a_minute) >= 1),
    add constraint the_highest_priority_is_a_digit check (max_priority between 0 and 9);

create index requesters_with_a_limit on requesters (name) where max_running is not null;
comment on index requesters_with_a_limit is 'serves admit_exports';

alter table exports disable trigger user;

alter table exports
    add turn bigint,
    add waits_for text,
    add max_rows bigint,
    add max_bytes bigint,
    add max_seconds integer,
    -- null in an insert: 5, or the highest that the requester may use
    alter priority drop default,
    add constraint an_export_waits_for_time_limit_or_worker
        check (waits_for in ('time', 'limit', 'worker'));

update exports
set waits_for = case when waiting.run_at > now() then 'time' else 'worker' end,
    turn = waiting.turn
from (
    select
        id,
        run_at,
        1000000 * row_number() over (
            partition by requested_by, priority order by run_at, id
        ) as turn
    from exports
    where status = 'pending'
) as waiting
where exports.id = waiting.id;

alter table exports
    add constraint only_a_pending_export_waits
        check ((status = 'pending') = (waits_for is not null)),
    add constraint what_waits_has_a_turn
        check (waits_for is null or turn is not null);

alter table exports enable trigger user;

drop index exports_to_claim;
create index exports_to_claim on exports (priority desc, turn, id)
where waits_for = 'worker';
comment on index exports_to_claim is 'serves claim_exports';

create index exports_to_come on exports (run_at) where waits_for = 'time';
comment on index exports_to_come is 'serves admit_due and next_export_in';

create index exports_in_line on exports (requested_by, waits_for, priority, turn)
where status = 'pending';
comment on index exports_in_line is 'serves queue_up, admit and quotas';

drop index exports_in_progress;
create index exports_in_progress on exports (requested_by) where status = 'processing';
comment on index exports_in_progress is 'serves admit, rescue_exports and live_exports';

-- The turn claimed last, of each priority.  A sequence is written without a lock.
do $$
begin
    for of_priority in 0..9 loop
        execute format('create sequence exports_turn_%s', of_priority);
    end loop;
end
$$;

create table requester_days (
    requester text not null,
    day date not null,
    bytes bigint not null,
    primary key (requester, day)
);
comment on table requester_days is
'How many bytes of files were made on each day, of those who have max_bytes_a_day.';
comment on column requester_days.requester is
'Whose exports.';
comment on column requester_days.day is
'Of UTC.';
comment on column requester_days.bytes is
'Bytes of the files that were completed.';
revoke all on requester_days from public;

insert into exports_migrations (name) values ('0008-fair-turns');
