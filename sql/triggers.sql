create or replace trigger submit before insert on exports
for each row execute function submit_export();

create or replace trigger guard before update on exports
for each row execute function guard_export();

create or replace trigger admit_insert after insert on exports
referencing new table as new_rows
for each statement execute function admit_exports();

create or replace trigger admit_update after update on exports
referencing old table as old_rows new table as new_rows
for each statement execute function admit_exports();

create or replace trigger admit_delete after delete on exports
referencing old table as old_rows
for each statement execute function admit_exports();

create or replace trigger admit after insert or delete or update of name, max_running on requesters
for each row execute function admit_requester();

create or replace trigger announce_insert after insert on exports
referencing new table as new_rows
for each statement execute function announce_exports();

create or replace trigger announce_update after update on exports
referencing old table as old_rows new table as new_rows
for each statement execute function announce_exports();

create or replace trigger announce_delete after delete on exports
referencing old table as old_rows
for each statement execute function announce_exports();

create or replace trigger remember_files after delete on exports
referencing old table as old_rows
for each statement execute function remember_files();

create or replace trigger announce after delete or update of requester, digest, scopes, expires_at, revoked_at
on requester_keys
for each row execute function announce_keys();

create or replace trigger announce after update of reader, settings
on requesters
for each row execute function announce_keys();

create or replace trigger log_insert after insert on exports
referencing new table as new_rows
for each statement execute function log_exports();

create or replace trigger log_update after update on exports
referencing old table as old_rows new table as new_rows
for each statement execute function log_exports();

create or replace trigger log_delete after delete on exports
referencing old table as old_rows
for each statement execute function log_exports();

create or replace trigger log after insert or delete or update of replaced_by, revoked_at on requester_keys
for each row execute function log_keys();

create or replace trigger announce after delete or update of expires_at, revoked_at on export_links
for each row execute function announce_keys();

create or replace trigger log after insert or update of revoked_at on export_links
for each row execute function log_links();

create or replace trigger guard before update or truncate on activities
for each statement execute function guard_activities();

do $$
begin
    perform let_admins();
end
$$;
