-- What was done, by whom, and from where; and links that download one file.

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

create table export_links (
    id text primary key,
    export uuid not null references exports on delete cascade,
    digest bytea not null unique,
    made_by text not null,
    made_with text references requester_keys on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz,
    constraint a_link_is_kept_as_its_digest check (length(digest) = 32),
    constraint a_link_lasts_thirty_days_at_most
        check (expires_at > created_at and expires_at - created_at <= interval '30 days')
);
comment on table export_links is
'Links that download one file without a key, made by create_link. A link itself is stored nowhere.';
comment on column export_links.id is
'The name of the link, which is no secret.';
comment on column export_links.export is
'The export whose file it downloads.';
comment on column export_links.digest is
'SHA-256 of its secret part.';
comment on column export_links.made_by is
'Who made it: a requester, or a database role.';
comment on column export_links.made_with is
'The key with which it was made, and which ends it when it is revoked; null if none was shown.';
comment on column export_links.created_at is
'When it was made.';
comment on column export_links.expires_at is
'From when on it leads nowhere.';
comment on column export_links.last_used_at is
'When it was used last, to the minute.';
comment on column export_links.revoked_at is
'Since when it leads nowhere, if it was revoked.';

create index export_links_by_export on export_links (export, created_at);
comment on index export_links_by_export is 'serves lists of links, and the removal of an export';

create index export_links_by_key on export_links (made_with);
comment on index export_links_by_key is 'serves the removal of a key';

revoke all on activities, export_links from public;

insert into exports_migrations (name) values ('0009-activity');
