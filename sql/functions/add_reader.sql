create or replace function add_reader(p_name text)
returns void
language plpgsql
set search_path to public, pg_temp
as $$
begin
    lock table readers in share row exclusive mode;
    if p_name = 'csv_reader' then
        return;
    end if;
    insert into readers (name) values (p_name) on conflict do nothing;
    if to_regrole(quote_ident(p_name)) is null then
        begin
            execute format('create role %I login', p_name);
        exception
            when insufficient_privilege then
                raise insufficient_privilege using
                    message = format('there is no role %I, and %I may not create it', p_name, current_user),
                    hint = format(
                        'Have an administrator run this once: create role %1$I login; grant %1$I to csv_service;',
                        p_name
                    );
            when duplicate_object or unique_violation then
                null;  -- another database of this cluster was faster
        end;
    end if;
    perform refuse_reader(p_name);
    begin
        -- Membership shows the reader's running COPYs to the service, and lets it
        -- cancel them.
        if not pg_has_role('csv_service', p_name::name, 'usage') then
            execute format('grant %I to csv_service', p_name);
        end if;
    exception when insufficient_privilege then
        raise insufficient_privilege using
            message = format('%I may not make csv_service a member of %I', current_user, p_name),
            hint = format('Have an administrator run this once: grant %I to csv_service;', p_name);
    end;
    begin
        perform give_functions(p_name);
    exception when insufficient_privilege then
        raise insufficient_privilege using
            message = format('%I may not give %I its functions: %s', current_user, p_name, sqlerrm),
            hint = format(
                'Have the owner of the database, or a superuser, run this once: select add_reader(%L);', p_name
            );
    end;
end
$$;
comment on function add_reader is $$
Let exports run as the role p_name, which is made if it does not exist, and give it the
functions that check and preview requests with its rights.  Repeating it renews them.

Needs CREATEROLE only to make a role.  What a reader may read is granted to it as to
csv_reader.  `csv-export readers add` also gives it a password, if the server asks for
one.
$$;
