create or replace function set_requester(p_name text, p_changes jsonb default '{}')
returns requesters
language plpgsql
set search_path to public, pg_temp
as $$
declare
    wanted requesters;
begin
    perform refuse_login(p_name);
    insert into requesters (name) values (p_name) on conflict do nothing;
    select * into wanted from requesters where name = p_name for update;
    wanted := jsonb_populate_record(wanted, p_changes);
    update requesters
    set reader = wanted.reader,
        settings = coalesce(wanted.settings, '{}'),
        weight = coalesce(wanted.weight, 1),
        max_running = wanted.max_running,
        max_pending = wanted.max_pending,
        max_priority = wanted.max_priority,
        max_rows = wanted.max_rows,
        max_bytes = wanted.max_bytes,
        max_bytes_a_day = wanted.max_bytes_a_day,
        max_seconds = wanted.max_seconds,
        max_previews_a_minute = wanted.max_previews_a_minute,
        max_requests_a_minute = wanted.max_requests_a_minute
    where name = p_name
    returning * into wanted;
    return wanted;
exception when foreign_key_violation then
    raise foreign_key_violation using
        message = format('there is no reader %s', wanted.reader),
        hint = 'An operator makes it by csv-export readers add.';
end
$$;
comment on function set_requester is $$
Change what p_changes names of the requester p_name, who is made if new; for example
{"reader": "sales_reader", "settings": {"app.tenant": "42"}}.  null restores a default.

It holds for what is submitted from now on; max_running and what is counted by the day or
the minute, at once.  Exports that wait keep the rest.
$$;
