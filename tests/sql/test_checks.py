"""Each CHECK of the table refuses a row that no other refuses, without any trigger."""

from typing import Any

import psycopg
import pytest
from psycopg import errors

Conn = psycopg.Connection[Any]

# For each constraint: values with which only this constraint refuses a row.
REFUSED = {
    "a_byte_order_mark_is_of_unicode": "bom = true, encoding = 'LATIN1'",
    "a_byte_order_mark_stands_before_a_header": "bom = true, header = false",
    "a_delimiter_is_one_plain_character": "delimiter = 'x'",
    "a_digest_is_a_sha256": "sha256 = 'ABC', status = 'completed', started_at = now(),"
    " finished_at = now(), waits_for = null",
    "a_failed_export_says_why": "status = 'failed', finished_at = now(),"
    " waits_for = null",
    "a_file_name_is_a_name": "file_name = '../../etc/passwd'",
    "a_limit_is_not_negative": "row_limit = -1",
    "a_line_break_text_has_no_line_break": r"line_break_text = E'a\nb'",
    "a_processing_export_has_started": "status = 'processing', worker = 'w',"
    " lease_expires_at = now(), waits_for = null",
    "a_query_is_not_blank": r"source = null, query = E' \n'",
    "an_error_has_a_message": """error = '{"code": 1}'""",
    "an_export_has_a_source_or_a_query": "query = 'select 1'",
    "an_export_waits_for_time_limit_or_worker": "waits_for = 'tea'",
    "an_idempotency_key_is_not_blank": "idempotency_key = ' '",
    "an_order_names_columns": "order_by = array[null]::text[]",
    "attempts_are_counted": "attempt = 1, failures = 2",
    "columns_are_named": "columns = '{}'",
    "columns_belong_to_a_source": "source = null, query = 'select 1', columns = '{id}'",
    "filters_are_a_list": "filters = '{}'",
    "filters_order_and_limit_belong_to_a_source": "source = null, query = 'select 1',"
    " row_limit = 1",
    "force_quote_names_columns": "force_quote = '{}'",
    "instants_are_of_our_calendar": "expires_at = 'infinity'",
    "json_has_none_of_the_options_of_csv": "format = 'jsonl'",
    "lines_end_with_lf_or_crlf": "line_ending = 'cr'",
    "only_a_completed_export_has_a_digest": "sha256 = repeat('a', 64)",
    "only_a_processing_export_is_leased": "worker = 'w'",
    "only_a_pending_export_waits": "waits_for = null",
    "only_an_ended_export_has_finished": "finished_at = now()",
    "only_csv_is_for_excel": "format = 'tsv', profile = 'excel'",
    "priority_is_a_digit": "priority = 10",
    "rows_and_bytes_are_counted": "rows = -1",
    "the_compression_is_none_gzip_or_zstd": "compression = 'rar'",
    "the_format_is_csv_tsv_or_jsonl": "format = 'xls'",
    "the_null_text_fits_into_a_field": "null_text = 'a,b'",
    "the_profile_is_excel": "profile = 'word'",
    "what_waits_has_a_turn": "turn = null",
}


def test_none_is_forgotten(conn: Conn) -> None:
    found = conn.execute(
        "select conname from pg_constraint"
        " where contype = 'c' and conrelid = 'exports'::regclass"
    ).fetchall()
    assert {name for (name,) in found} == REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses(conn: Conn, name: str) -> None:
    conn.execute("insert into exports (source) values ('users')")
    conn.execute("set session_replication_role = replica")  # turns triggers off
    with pytest.raises(errors.CheckViolation) as refused:
        conn.execute(f"update exports set {REFUSED[name]}".encode())
    assert refused.value.diag.constraint_name == name
