-- claim_export and heartbeat_export have one more parameter each.

drop function if exists claim_export(text, interval, timestamptz[]);
drop function if exists heartbeat_export(uuid, integer, interval, bigint, bigint);

insert into exports_migrations (name) values ('0004-lanes');
