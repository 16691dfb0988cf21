-- How each attempt ended, ten priorities, and files that outlive their row.

alter table exports disable trigger user;

-- Ten, so that claim_export can look at each by itself.
alter table exports alter priority set default 5;
update exports set priority = least(9, greatest(0, priority + 5));
alter table exports add constraint priority_is_a_digit check (priority between 0 and 9);

alter table exports alter max_attempts set default 5;

alter table exports add history jsonb not null default '[]';
comment on column exports.history is
'The attempts that have ended: attempt, worker, startedAt, endedAt, outcome, error.';

-- Named as soon as it is being written.
drop view if exists live_exports cascade;
alter table exports drop file_path;
alter table exports add file_path text generated always as (
    case when status in ('processing', 'completed')
        then id::text || '-' || attempt::text || '.csv'
    end
) stored;

alter table exports enable trigger user;

create table deleted_files (
    name text primary key,
    deleted_at timestamptz not null default now()
);
comment on table deleted_files is
'Files whose export was deleted; find_debris hands them to the janitor.';

drop function if exists claim_export(text, interval);
drop function if exists complete_export(uuid, integer, bigint, bigint, text);
drop function if exists fail_export(uuid, integer, jsonb, interval);
drop function if exists after_failure(integer, integer, interval);

insert into exports_migrations (name) values ('0002-nothing-lost');
