create or replace function check_priority(p_requester text, p_priority integer)
returns void
language plpgsql
security definer
set search_path to public, pg_temp
as $$
declare
    highest constant integer := (select max_priority from requesters where name = p_requester);
begin
    perform refuse_strangers(p_requester);
    if p_priority > highest then
        raise check_violation using
            message = format(
                'the priority %s is above %s, the highest for %s', p_priority, highest, p_requester
            );
    end if;
end
$$;
comment on function check_priority is $$
Raise an error if p_requester may not use p_priority.
$$;
