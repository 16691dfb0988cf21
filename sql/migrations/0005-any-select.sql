-- What an export's names mean, and more forms of a file.

alter table exports disable trigger user;

alter table exports
    add search_path text,
    add relations jsonb,

    add encoding text not null default 'UTF8',
    -- null in an insert, as for the other options of CSV
    add force_quote text[],
    add decimal_comma boolean,
    add line_break_text text,
    add digits_as_text boolean;

comment on column exports.search_path is
'Where the names in the request are looked up, when it is checked and when it runs. Null: in the path of csv_reader.';
comment on column exports.relations is
'The relations that words of the query meant when it was checked: {"users": "public"}. They must mean the same when it runs.';

update exports
set decimal_comma = false, digits_as_text = false
where format <> 'jsonl';
-- Which nobody could read; new ones are refused.
update exports set bom = false where bom and not header;

alter table exports
    drop constraint json_has_none_of_the_options_of_csv,
    -- Written anew: a server without standard_conforming_strings read them otherwise.
    drop constraint a_query_is_not_blank,
    drop constraint a_delimiter_is_one_plain_character,
    drop constraint the_null_text_fits_into_a_field,
    drop constraint a_file_name_is_a_name,
    drop constraint an_idempotency_key_is_not_blank;

alter table exports
    add constraint a_query_is_not_blank
        check (query ~ E'\\S'),
    add constraint a_delimiter_is_one_plain_character
        check (octet_length(delimiter) = 1 and delimiter !~ E'[[:alnum:]\r\n"\\\\.]'),
    add constraint the_null_text_fits_into_a_field
        check (null_text !~ E'[\r\n"]' and strpos(null_text, delimiter) = 0),
    add constraint a_file_name_is_a_name
        check (file_name ~ E'^[^/\\\\[:cntrl:]]{1,200}$'),
    add constraint an_idempotency_key_is_not_blank
        check (idempotency_key ~ E'\\S' and length(idempotency_key) <= 255),

    add constraint json_has_none_of_the_options_of_csv check (
        case format
            when 'jsonl' then encoding = 'UTF8' and num_nonnulls(
                delimiter, header, null_text, quote_all, force_quote, bom,
                formula_guard, decimal_comma, line_break_text, digits_as_text
            ) = 0
            else num_nulls(
                delimiter, header, null_text, quote_all, bom,
                formula_guard, decimal_comma, digits_as_text
            ) = 0
        end
    ),
    add constraint a_byte_order_mark_stands_before_a_header
        check (not bom or header or encoding = 'UTF-16LE'),
    add constraint a_byte_order_mark_is_of_unicode
        check (bom = (encoding = 'UTF-16LE') or encoding = 'UTF8'),
    add constraint force_quote_names_columns
        check (cardinality(force_quote) > 0 and array_position(force_quote, null) is null),
    add constraint a_line_break_text_has_no_line_break
        check (line_break_text !~ E'[\r\n]' and length(line_break_text) <= 100);

alter table exports enable trigger user;

-- Their parameters, or what they return, have changed.
drop function if exists preview_export(text, text[], jsonb, text[], bigint, text);
drop function if exists first_rows_as_reader(text, text, integer);
drop function if exists compile_select(text, text[], jsonb, text[], bigint);
drop function if exists find_relation(text);

insert into exports_migrations (name) values ('0005-any-select');
