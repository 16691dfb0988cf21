-- Install or update by hand, as an administrator of the database:
--
--     psql -d DATABASE -f sql/install.sql
--
-- `csv-export migrate` does the same, and remembers that it did.

\set ON_ERROR_STOP on
begin;
-- In our texts a backslash is a backslash, whatever the database says.
set local standard_conforming_strings to on;
set local search_path to public;
\ir roles.sql
set local role csv_service;
\ir ledger.sql
lock table exports_migrations in share row exclusive mode;
reset role;
\ir reader.sql
set local role csv_service;
select not exists (select from exports_migrations where name = '0001-exports') as missing \gset
\if :missing
\ir migrations/0001-exports.sql
\endif
select not exists (select from exports_migrations where name = '0002-nothing-lost') as missing \gset
\if :missing
\ir migrations/0002-nothing-lost.sql
\endif
select not exists (select from exports_migrations where name = '0003-requests') as missing \gset
\if :missing
\ir migrations/0003-requests.sql
\endif
select not exists (select from exports_migrations where name = '0004-lanes') as missing \gset
\if :missing
\ir migrations/0004-lanes.sql
\endif
select not exists (select from exports_migrations where name = '0005-any-select') as missing \gset
\if :missing
\ir migrations/0005-any-select.sql
\endif
select not exists (select from exports_migrations where name = '0006-long-history') as missing \gset
\if :missing
\ir migrations/0006-long-history.sql
\endif
select not exists (select from exports_migrations where name = '0007-keys') as missing \gset
\if :missing
\ir migrations/0007-keys.sql
\endif
select not exists (select from exports_migrations where name = '0008-fair-turns') as missing \gset
\if :missing
\ir migrations/0008-fair-turns.sql
\endif
select not exists (select from exports_migrations where name = '0009-activity') as missing \gset
\if :missing
\ir migrations/0009-activity.sql
\endif
select not exists (select from exports_migrations where name = '0010-readers') as missing \gset
\if :missing
\ir migrations/0010-readers.sql
\endif
select not exists (select from exports_migrations where name = '0011-own-rows') as missing \gset
\if :missing
\ir migrations/0011-own-rows.sql
\endif
\ir functions/add_reader.sql
\ir functions/admit.sql
\ir functions/admit_due.sql
\ir functions/admit_exports.sql
\ir functions/admit_requester.sql
\ir functions/after_failure.sql
\ir functions/announce_exports.sql
\ir functions/announce_keys.sql
\ir functions/base_type.sql
\ir functions/call_as.sql
\ir functions/cancel_export.sql
\ir functions/check_limits.sql
\ir functions/check_priority.sql
\ir functions/claim_export.sql
\ir functions/claim_exports.sql
\ir functions/compile_filter.sql
\ir functions/compile_filters.sql
\ir functions/compile_select.sql
\ir functions/compile_slices.sql
\ir functions/complete_export.sql
\ir functions/complete_exports.sql
\ir functions/create_key.sql
\ir functions/create_link.sql
\ir functions/create_session.sql
\ir functions/delete_export.sql
\ir functions/ends_outside.sql
\ir functions/explain_as.sql
\ir functions/fail_export.sql
\ir functions/find_column.sql
\ir functions/find_debris.sql
\ir functions/find_encoding.sql
\ir functions/find_key.sql
\ir functions/find_link.sql
\ir functions/find_relation.sql
\ir functions/find_relation_as.sql
\ir functions/function_of.sql
\ir functions/give_functions.sql
\ir functions/guard_activities.sql
\ir functions/guard_export.sql
\ir functions/heartbeat_export.sql
\ir functions/is_blank.sql
\ir functions/let_admins.sql
\ir functions/list_activities.sql
\ir functions/log_activity.sql
\ir functions/log_exports.sql
\ir functions/log_keys.sql
\ir functions/log_links.sql
\ir functions/next_export_in.sql
\ir functions/place_in_queue.sql
\ir functions/places_left.sql
\ir functions/prepare_export.sql
\ir functions/preview_as.sql
\ir functions/preview_export.sql
\ir functions/prune_activities.sql
\ir functions/prune_exports.sql
\ir functions/queue_depth.sql
\ir functions/queue_up.sql
\ir functions/readable.sql
\ir functions/reader_of.sql
\ir functions/refuse_beyond_settings.sql
\ir functions/refuse_login.sql
\ir functions/refuse_other_meanings.sql
\ir functions/refuse_reader.sql
\ir functions/refuse_strangers.sql
\ir functions/relations_in.sql
\ir functions/relations_under.sql
\ir functions/release_export.sql
\ir functions/remember_files.sql
\ir functions/remove_reader.sql
\ir functions/renew_readers.sql
\ir functions/requester_usage.sql
\ir functions/rescue_exports.sql
\ir functions/retry_export.sql
\ir functions/revoke_key.sql
\ir functions/revoke_link.sql
\ir functions/rotate_key.sql
\ir functions/session_search_path.sql
\ir functions/set_requester.sql
\ir functions/sources_of.sql
\ir functions/speaks_for.sql
\ir functions/submit_export.sql
\ir functions/trim_query.sql
\ir functions/turn_reached.sql
\ir functions/who_asks.sql
\ir views.sql
\ir triggers.sql
\ir comments.sql
reset role;
select renew_readers() \gset
commit;
