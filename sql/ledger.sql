-- What this database has seen of sql/.

create table if not exists exports_migrations (
    name text primary key,
    digest text,
    applied_at timestamptz not null default now()
);
comment on table exports_migrations is $$
Each applied file of sql/migrations, and "functions": the digest of everything
that is replaced when it changes.
$$;
