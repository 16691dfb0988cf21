-- Readers: the login roles that run exports, and whose exports each of them runs.

create table readers (
    name text primary key,
    password text,
    created_at timestamptz not null default now(),
    constraint a_reader_has_a_short_name
        check (octet_length(name) between 1 and 46 and name <> 'reader')
);
comment on table readers is
'The roles that exports can run as, made by add_reader. Only the service may read it.';
comment on column readers.name is
'The role.';
comment on column readers.password is
'What the service logs in with; null under trust or with certificates. That of csv_reader is in reader_login.';
comment on column readers.created_at is
'When it was added.';
insert into readers (name) values ('csv_reader');

revoke all on readers from public;

alter table requesters
    add reader text references readers,
    add settings jsonb not null default '{}',
    add constraint settings_are_texts_by_name check (
        jsonb_typeof(settings) = 'object'
        and not jsonb_path_exists(settings, '$.keyvalue() ? (@.value.type() != "string")')
        and octet_length(settings::text) <= 10000
    ),
    add constraint settings_have_names_with_a_dot check (
        not jsonb_path_exists(
            settings,
            '$.keyvalue() ? (!(@.key like_regex "^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)+$"))'
        )
    );
comment on column requesters.reader is
'The role that runs their exports; null: csv_reader.';
comment on column requesters.settings is
'Settings of the transactions that run their exports, for policies of row-level security: {"app.tenant": "42"}.';

alter table exports
    add reader text not null default 'csv_reader',
    add settings jsonb;
comment on column exports.reader is
'The role that runs it: the reader of who asked.';
comment on column exports.settings is
'The settings of who asked, which are set before the SELECT; null: none.';

insert into exports_migrations (name) values ('0010-readers');
