-- Who asks over HTTP: requesters, and the keys that programs and browsers show.

create table requesters (
    name text primary key,
    created_at timestamptz not null default now(),
    constraint a_requester_has_a_plain_name
        check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,62}$')
);
comment on table requesters is
'Whom keys speak for. Their exports have this name in requested_by.';
comment on column requesters.name is
'Letters, digits, and _ . @ + - after the first; for example an address of mail.';
comment on column requesters.created_at is
'When it was made.';

create table requester_keys (
    id text primary key,
    requester text not null references requesters on update cascade on delete cascade,
    digest bytea not null unique,
    scopes text[] not null,
    label text,
    made_by text references requester_keys on delete cascade,
    replaced_by text references requester_keys on delete set null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    constraint a_key_is_kept_as_its_digest check (length(digest) = 32),
    constraint scopes_are_read_export_download_admin
        check (scopes <@ '{read,export,download,admin}' and cardinality(scopes) > 0),
    constraint a_label_is_short check (length(label) <= 100)
);
comment on table requester_keys is
'The keys of requesters, made by create_key. A key itself is stored nowhere.';
comment on column requester_keys.id is
'The part of the key that is no secret.';
comment on column requester_keys.requester is
'Whom it speaks for.';
comment on column requester_keys.digest is
'SHA-256 of the key.';
comment on column requester_keys.scopes is
'What it allows: read, export, download; admin: all of it, for everybody''s exports.';
comment on column requester_keys.label is
'What it is for.';
comment on column requester_keys.made_by is
'The key with which a browser signed in for this one, which ends with it; null for others.';
comment on column requester_keys.replaced_by is
'The key that rotate_key made in its place.';
comment on column requester_keys.created_at is
'When it was made.';
comment on column requester_keys.expires_at is
'From when on it is not accepted; null: never.';
comment on column requester_keys.last_used_at is
'When it was used last, to the minute.';
comment on column requester_keys.revoked_at is
'Since when it is not accepted any more.';

create index requester_keys_by_requester on requester_keys (requester);
comment on index requester_keys_by_requester is 'serves the removal of a requester';

create index requester_keys_by_maker on requester_keys (made_by);
comment on index requester_keys_by_maker is 'serves the removal of a key';

create index requester_keys_by_replacement on requester_keys (replaced_by);
comment on index requester_keys_by_replacement is 'serves the removal of a key';

revoke all on requesters, requester_keys from public;

insert into exports_migrations (name) values ('0007-keys');
