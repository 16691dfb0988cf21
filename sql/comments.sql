-- What psql's \d+ shows, and docs/reference/sql.md.

comment on column exports.id is
'The id of the export; REST calls it jobId.';
comment on column exports.status is
'pending, processing, completed, failed or cancelled.';
comment on column exports.source is
'The relation to export; null if there is a query.';
comment on column exports.columns is
'Columns of the source, in the order of the file; null: all.';
comment on column exports.query is
'One SELECT, in place of a source.';
comment on column exports.sql_text is
'The SELECT that is run, compiled at submit.';
comment on column exports.estimated_rows is
'How many rows the planner expects.';
comment on column exports.priority is
'0 to 9; higher ones are run first.';
comment on column exports.run_at is
'It is not run before this instant.';
comment on column exports.max_attempts is
'After how many failed attempts it fails for good.';
comment on column exports.requested_by is
'Who asked for it: the requester of the key, or of psql users session_user.';
comment on column exports.attempt is
'How many attempts have begun. It is the fencing token: it only grows.';
comment on column exports.failures is
'How many attempts have failed or were lost.';
comment on column exports.worker is
'Host and process that run it now.';
comment on column exports.lease_expires_at is
'When the worker counts as lost, unless it extends the lease.';
comment on column exports.rows is
'Rows written, as of the last heartbeat; see live_exports.';
comment on column exports.bytes is
'Bytes written, as of the last heartbeat; of a completed export, bytes of the file.';
comment on column exports.progress is
'Percent done, from 0 to 100, by the estimate.';
comment on column exports.sha256 is
'SHA-256 of the file, in hexadecimal; of completed exports only.';
comment on column exports.error is
'Why it failed, or the last attempt did: {"message", "sqlstate", "hint", "detail"}.';
comment on column exports.created_at is
'When it was submitted.';
comment on column exports.started_at is
'When the last attempt began.';
comment on column exports.finished_at is
'When it ended.';
comment on column exports.expires_at is
'When its file may be deleted; null: never.';
comment on column exports.transition is
'Which function is changing the row; always null outside of one.';
comment on column exports.history is
'How each attempt ended: a list of {"attempt", "worker", "startedAt", "endedAt", "outcome", "error"}.';
comment on column exports.filters is
'Conditions on the source, which must all hold: a list of {"column", "op", "value"}.';
comment on column exports.order_by is
'Columns to sort by; - before a name means descending.';
comment on column exports.row_limit is
'The most rows to export.';
comment on column exports.format is
'csv, tsv or jsonl.';
comment on column exports.compression is
'none, gzip or zstd.';
comment on column exports.profile is
'excel: a byte order mark, CRLF and the formula guard, unless they are given.';
comment on column exports.delimiter is
'The character between fields. Null in an insert, here and below: the default of the format or profile.';
comment on column exports.header is
'Does the file begin with the names of the columns?';
comment on column exports.null_text is
'The text that stands for NULL; it is never quoted.';
comment on column exports.quote_all is
'Quote every value, NULL excepted?';
comment on column exports.line_ending is
'lf or crlf.';
comment on column exports.bom is
'Begin with a byte order mark?';
comment on column exports.formula_guard is
'Put an apostrophe before text that a spreadsheet would take for a formula?';
comment on column exports.time_zone is
'The time zone of the values.';
comment on column exports.file_name is
'The name that a download suggests; null: made of the source and the date.';
comment on column exports.idempotency_key is
'Unique; over HTTP its first export answers. Of a requester: SHA-256 of name and key.';
comment on column exports.request_digest is
'Tells over HTTP whether a repeated key came with the same request.';
comment on column exports.result_columns is
'Names and types of the columns of the file, once completed.';
comment on column exports.snapshot_at is
'The instant that the data is of, once completed.';
comment on column exports.file_path is
'The name of the file in EXPORTS_DIR.';
comment on column exports.encoding is
'The encoding of the file.';
comment on column exports.force_quote is
'Columns whose values are always quoted, NULL excepted.';
comment on column exports.decimal_comma is
'Write decimal numbers with a comma?';
comment on column exports.line_break_text is
'What replaces line breaks within values; null: they are kept.';
comment on column exports.digits_as_text is
'Write numbers that a spreadsheet would shorten as ="00123"?';
comment on column exports.search_path is
'Where the names in the request are looked up, when it is checked and when it runs. Null: in the path of its reader.';
comment on column exports.relations is
'The relations that words of the query meant when it was checked: {"users": "public"}.'
' They must mean the same when it runs.';

comment on column exports.turn is
'Its turn among those of its priority; see queue_up.';
comment on column exports.waits_for is
'What it waits for while pending: time (its run_at), limit (others of its requester) or worker.';
comment on column exports.max_rows is
'The most rows of its file; here and below, of its requester.';
comment on column exports.max_bytes is
'The most bytes of its file.';
comment on column exports.max_seconds is
'The most seconds of an attempt.';

comment on column requesters.weight is
'Their share of the workers, compared with the weights of others.';
comment on column requesters.max_running is
'How many exports may run at once; here and below null means any number.';
comment on column requesters.max_pending is
'How many exports may wait.';
comment on column requesters.max_priority is
'The highest priority they may use.';
comment on column requesters.max_rows is
'The most rows of a file.';
comment on column requesters.max_bytes is
'The most bytes of a file.';
comment on column requesters.max_bytes_a_day is
'The most bytes of all files made on a day of UTC.';
comment on column requesters.max_seconds is
'The most seconds of an attempt.';
comment on column requesters.max_previews_a_minute is
'How many previews a minute each process of the service makes for them.';
comment on column requesters.max_requests_a_minute is
'How many requests a minute each process of the service answers them.';

comment on column live_exports.rows is
'Rows written, as of this moment.';
comment on column live_exports.bytes is
'Bytes written, as of this moment.';
comment on column live_exports.place is
'The place in the queue, from 1, of the first hundred that wait for a worker.';
comment on column live_exports.rows_per_second is
'Mean speed of the running attempt.';
comment on column live_exports.eta_seconds is
'Seconds until it is expected to end.';
comment on column live_exports.expired is
'May its file be deleted, by the clock of the database?';

comment on column sources.source is
'The name to export it by.';
comment on column sources.kind is
'table, partitioned table, view, materialized view or foreign table.';
comment on column sources.comment is
'The comment on the relation.';
comment on column sources.estimated_rows is
'Rows, by the planner.';
comment on column sources.bytes is
'Size on disk, by the planner.';
comment on column sources.columns is
'The columns that the reader may read: a list of {"name", "type", "nullable", "comment"}.';
