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
        settings = coalesce(wanted.settings, '{}')
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

It holds for what is submitted from now on.  Exports that wait keep what they have.
$$;
