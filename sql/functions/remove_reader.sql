create or replace function remove_reader(p_name text)
returns boolean
language plpgsql
set search_path to public, pg_temp
as $$
declare
    found_one text;
    made regprocedure;
begin
    lock table readers in share row exclusive mode;
    if p_name = 'csv_reader' then
        raise dependent_objects_still_exist using
            message = 'csv_reader cannot be removed',
            hint = 'It is the reader of all requesters that have no other.';
    end if;
    select name into found_one from requesters where reader = p_name order by name limit 1;
    if found_one is not null then
        raise dependent_objects_still_exist using
            message = format('%s is the reader of %s', p_name, found_one),
            hint = 'Give its requesters another one first: csv-export requesters set.';
    end if;
    select id into found_one from exports
    where reader = p_name and status in ('pending', 'processing') limit 1;
    if found_one is not null then
        raise dependent_objects_still_exist using
            message = format('%s has exports to run, such as %s', p_name, found_one),
            hint = 'Wait until they have ended, or cancel them.';
    end if;
    for made in
        select oid
        from pg_proc
        where pronamespace = 'public'::regnamespace
            and proowner = to_regrole(quote_ident(p_name))
            and proname = any(array(
                select function_of(p_name, what)
                from unnest('{explain,preview,find_relation}'::text[]) as what
            ))
    loop
        execute format('drop function %s', made);
    end loop;
    delete from readers where name = p_name;
    return found;
end
$$;
comment on function remove_reader is $$
Let no export run as p_name any more.  Returns false if none did.

The role is kept, with what was granted to it.
$$;
