create or replace function trim_query(p_query text)
returns text
language plpgsql stable
as $$
declare
    trimmed text := p_query;
    found integer;
begin
    if getdatabaseencoding() = 'UTF8' then
        trimmed := ltrim(trimmed, chr(65279));  -- a byte order mark
    end if;
    trimmed := regexp_replace(trimmed, '^[[:space:]]*;[;[:space:]]*', '');
    trimmed := regexp_replace(trimmed, ';[;[:space:]]*$', '');
    -- What is left may end in comments, with semicolons before and between.
    for n in 1..20 loop
        found := regexp_instr(trimmed, ';[;[:space:]]*(--|/[*])', 1, n);
        exit when found = 0;
        if is_blank(substr(trimmed, found)) and ends_outside(left(trimmed, found - 1)) then
            return left(trimmed, found - 1);
        end if;
    end loop;
    return trimmed;
end
$$;
comment on function trim_query is $$
p_query without a byte order mark at its beginning, and without semicolons and
comments at its end, so that it can be put into parentheses.
$$;
