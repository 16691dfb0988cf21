-- Lists by status, and by who asked, however many exports have ended; and their end.

create index exports_by_status on exports (status, created_at desc, id desc);
comment on index exports_by_status is 'serves list_exports';

create index exports_by_requester on exports (requested_by, created_at desc, id desc);
comment on index exports_by_requester is 'serves list_exports';

create index exports_to_prune on exports (finished_at)
where status in ('completed', 'failed', 'cancelled');
comment on index exports_to_prune is 'serves prune_exports';

-- Replaced by one with two more parameters, which have defaults: old workers call it as before.
drop function if exists fail_export(uuid, integer, jsonb, boolean);

insert into exports_migrations (name) values ('0006-long-history');
