-- What the demo exports.  PostgreSQL's container image runs the seeds in order
-- when it makes a new database; `python -m service seed` runs them elsewhere.

create table if not exists users (
    id bigint generated always as identity primary key,
    name text not null,
    email text not null,
    country text not null,
    city text,
    bio text,
    balance numeric(12, 2) not null,
    is_active boolean not null,
    birth_date date,
    signup_at timestamptz not null,
    last_login_at timestamptz
);
comment on table users is 'People who do not exist, to be exported';

-- Publish it: csv_reader runs the exported SELECTs.
do $$
begin
    if to_regrole('csv_reader') is null then
        create role csv_reader login;
    end if;
exception when duplicate_object or unique_violation then
    null;
end
$$;
grant select on users to csv_reader;
