create or replace function readable(p_text text)
returns text
language plpgsql stable
as $$
begin
    if getdatabaseencoding() <> 'SQL_ASCII' then
        return p_text;
    end if;
    perform convert_from(convert_to(p_text, 'SQL_ASCII'), 'UTF8');
    return p_text;
exception when character_not_in_repertoire then
    return encode(convert_to(p_text, 'SQL_ASCII'), 'escape');
end
$$;
comment on function readable is $$
p_text, with escapes in place of bytes that are not UTF-8, which only a database in
SQL_ASCII can hold.
$$;
