-- What was done, by whom, and from where.

-- A domain, because PostgreSQL reads a table's CHECK anew for each statement.
create domain activity_action as text
constraint an_action_is_one_of_these check (
    value in (
        'submitted', 'started', 'completed', 'failed', 'cancelled', 'retried',
        'deleted', 'forgotten', 'downloaded',
        'key-made', 'key-rotated', 'key-revoked', 'key-refused',
        'link-made', 'link-revoked'
    )
);
comment on domain activity_action is
'What was done with an export, a key or a link.';

create table activities (
    at timestamptz not null default clock_timestamp(),
    id bigint not null generated always as identity,
    action activity_action not null,
    requester text,
    actor text,
    key_id text,
    address text,
    export uuid,
    bytes bigint,
    detail jsonb,
    primary key (at, id)
);
comment on table activities is
'The log of what was done, written by triggers and by the API. Nothing in it is changed.';
comment on column activities.at is
'When it was done.';
comment on column activities.id is
'Tells apart what was done at the same instant.';
comment on column activities.action is
'What was done.';
comment on column activities.requester is
'Whose export or key it is.';
comment on column activities.actor is
'Who did it: a requester, or a database role; null: a stranger, by a link or a wrong key.';
comment on column activities.key_id is
'The id of the key with which it was done.';
comment on column activities.address is
'The network address that it came from, if it came over a network.';
comment on column activities.export is
'The id of the export, which may be deleted since.';
comment on column activities.bytes is
'Bytes that were written, or sent in a download.';
comment on column activities.detail is
'More about it, by the action: what is exported, the attempt, rows, the key or the link.';

create index activities_by_requester on activities (requester, at, id);
comment on index activities_by_requester is 'serves list_activities';

create index activities_by_export on activities (export, at, id) where export is not null;
comment on index activities_by_export is 'serves list_activities';

revoke all on activities from public;

insert into exports_migrations (name) values ('0009-activity');
