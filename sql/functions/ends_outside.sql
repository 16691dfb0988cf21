create or replace function ends_outside(p_query text)
returns boolean
language plpgsql
as $$
declare
    query_cursor refcursor;
begin
    -- On the line on which p_query ends: a comment would swallow the parenthesis,
    -- quotes that are open would be missing their ends.
    begin
        open query_cursor for execute
            'explain select from pg_catalog."not there", (' || p_query || ') as export';
    exception
        when syntax_error then
            return false;
        when undefined_table then
            return true;  -- it was parsed, and nothing in it looked up
    end;
    return false;
end
$$;
comment on function ends_outside is $$
True if p_query, a SELECT, ends outside of quotes and comments, by PostgreSQL's own
parser.
$$;
