-- What this database has seen of sql/.  Who installs locks it, and nobody else can.

create table if not exists exports_migrations (
    name text primary key,
    digest text,
    applied_at timestamptz not null default now()
);
alter table exports_migrations add column if not exists edition integer;
alter table exports_migrations add column if not exists oldest integer;
comment on table exports_migrations is $$
One row for each applied file of sql/migrations, and one called functions: the digest
of all files that are replaced when they change, their edition, and the oldest edition
whose processes can work with them.
$$;
