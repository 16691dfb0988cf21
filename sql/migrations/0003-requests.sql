-- Which rows, in which form; what came of it; requests that are made once.

alter table exports disable trigger user;
drop view if exists live_exports cascade;
drop function if exists compile_select(text, text[]);
drop function if exists complete_export(uuid, integer, bigint, bigint, text, interval);

alter table exports
    add filters jsonb,
    add order_by text[],
    add row_limit bigint,

    add format text not null default 'csv',
    add compression text not null default 'none',
    add profile text,
    -- null in an insert: what the format, or the profile, has; see submit_export
    add delimiter text,
    add header boolean,
    add null_text text,
    add quote_all boolean,
    add line_ending text,
    add bom boolean,
    add formula_guard boolean,
    add time_zone text not null default 'UTC',
    add file_name text,

    add idempotency_key text unique,
    add request_digest text,

    -- the receipt, beside rows, bytes and sha256
    add result_columns jsonb,
    add snapshot_at timestamptz;

update exports
set delimiter = ',', header = true, null_text = '', quote_all = false,
    line_ending = 'lf', bom = false, formula_guard = false;

alter table exports
    add constraint filters_order_and_limit_belong_to_a_source check (
        source is not null or num_nonnulls(filters, order_by, row_limit) = 0
    ),
    add constraint filters_are_a_list check (jsonb_typeof(filters) = 'array'),
    add constraint an_order_names_columns check (array_position(order_by, null) is null),
    add constraint a_limit_is_not_negative check (row_limit >= 0),
    add constraint the_format_is_csv_tsv_or_jsonl check (format in ('csv', 'tsv', 'jsonl')),
    add constraint the_compression_is_none_gzip_or_zstd
        check (compression in ('none', 'gzip', 'zstd')),
    add constraint the_profile_is_excel check (profile = 'excel'),
    add constraint a_delimiter_is_one_plain_character
        check (octet_length(delimiter) = 1 and delimiter !~ '[[:alnum:]\r\n"\\.]'),
    add constraint the_null_text_fits_into_a_field
        check (null_text !~ '[\r\n"]' and strpos(null_text, delimiter) = 0),
    add constraint lines_end_with_lf_or_crlf check (line_ending in ('lf', 'crlf')),
    add constraint json_has_none_of_the_options_of_csv check (
        (format = 'jsonl')
        = (num_nulls(delimiter, header, null_text, quote_all, bom, formula_guard) = 6)
    ),
    add constraint only_csv_is_for_excel check (profile is null or format = 'csv'),
    add constraint a_file_name_is_a_name
        check (file_name ~ '^[^/\\[:cntrl:]]{1,200}$'),
    add constraint an_idempotency_key_is_not_blank
        check (idempotency_key ~ '\S' and length(idempotency_key) <= 255);

alter table exports drop file_path;
alter table exports add file_path text generated always as (
    case when status in ('processing', 'completed') then
        id::text || '-' || attempt::text || '.' || format
        || case compression when 'gzip' then '.gz' when 'zstd' then '.zst' else '' end
    end
) stored;

alter table exports enable trigger user;

create index exports_by_source on exports (source, created_at desc, id desc);
comment on index exports_by_source is 'serves list_exports';

insert into exports_migrations (name) values ('0003-requests');
