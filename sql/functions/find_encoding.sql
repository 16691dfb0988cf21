create or replace function find_encoding(p_name text)
returns text
language plpgsql stable
as $$
declare
    code constant integer := pg_char_to_encoding(p_name);
    server constant integer := pg_char_to_encoding(getdatabaseencoding());
begin
    if p_name ~* '^utf-?16(-?le)?$' then
        return 'UTF-16LE';
    end if;
    if code = -1 then
        raise invalid_parameter_value using
            message = format('there is no encoding "%s"', p_name),
            hint = 'Encodings are UTF8, UTF-16LE, WIN1252, LATIN1, and all others that PostgreSQL knows.';
    end if;
    if code <> server
        and 'SQL_ASCII' not in (pg_encoding_to_char(code), getdatabaseencoding())
        and not exists (
            select from pg_conversion
            where conforencoding = server and contoencoding = code and condefault
        )
    then
        raise invalid_parameter_value using
            message = format(
                'PostgreSQL cannot convert %s, the encoding of this database, to %s',
                getdatabaseencoding(), pg_encoding_to_char(code)
            );
    end if;
    return pg_encoding_to_char(code);
end
$$;
comment on function find_encoding is $$
PostgreSQL's name of the encoding p_name if PostgreSQL can convert to it, or UTF-16LE.
$$;
