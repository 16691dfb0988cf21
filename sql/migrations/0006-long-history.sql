-- Lists by status, and by who asked, however many exports have ended.

create index exports_by_status on exports (status, created_at desc, id desc);
comment on index exports_by_status is 'serves list_exports';

create index exports_by_requester on exports (requested_by, created_at desc, id desc);
comment on index exports_by_requester is 'serves list_exports';

insert into exports_migrations (name) values ('0006-long-history');
