create or replace function is_blank(p_sql text)
returns boolean
language plpgsql immutable
as $$
declare
    token text;
    depth integer := 0;  -- comments can be nested
    in_line boolean := false;
begin
    for token in
        select (regexp_matches(p_sql, E'/[*]|[*]/|--|\n|[^;[:space:]]', 'g'))[1]
    loop
        if in_line then
            in_line := token <> E'\n';
        elsif token = '/*' then
            depth := depth + 1;
        elsif depth > 0 then
            depth := depth - (token = '*/')::integer;
        elsif token = '--' then
            in_line := true;
        elsif token <> E'\n' then
            return false;
        end if;
    end loop;
    return depth = 0;
end
$$;
comment on function is_blank is $$
True if p_sql, which begins outside of quotes and comments, has only white space,
semicolons and comments.
$$;
