create or replace function turn_reached(p_priority integer)
returns bigint
language sql volatile
set search_path to public, pg_temp
as $$
    select coalesce(pg_sequence_last_value(('exports_turn_' || p_priority)::regclass), 0);
$$;
comment on function turn_reached is $$
The turn that was claimed last with this priority.
$$;

revoke execute on function turn_reached from public;
