create or replace function check_query(p_sql text)
returns bigint
language plpgsql
as $$
declare
    path text := current_setting('search_path');
    plan jsonb := explain_as_reader(p_sql, path);
begin
    if jsonb_path_exists(plan, '$.** ? (@."Node Type" == "ModifyTable")') then
        raise feature_not_supported using
            message = 'an export only reads, but this statement writes',
            hint = 'Write one SELECT.';
    end if;
    -- Alone it is one statement; in parentheses it must be one SELECT.
    perform explain_as_reader(format(E'select * from (\n%s\n) as export', p_sql), path);
    return (plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric;
end
$$;
comment on function check_query is $$
Refuse what is not one harmless SELECT that csv_reader may run; else return
the planner's estimate of its rows.
$$;
