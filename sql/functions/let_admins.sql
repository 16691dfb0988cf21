create or replace function let_admins()
returns void
language plpgsql
set search_path to public, pg_temp
as $$
begin
    if to_regrole('csv_admin') is null then
        return;
    end if;
    if not exists (
        select from pg_policy
        where polrelid = 'exports'::regclass and polname = 'seen and touched by admins'
    ) then
        create policy "seen and touched by admins" on exports to csv_admin using (true);
    end if;
    grant select, insert, delete, update (status, priority, run_at, max_attempts, expires_at)
    on exports to csv_admin;
    grant select on live_exports, sources, requester_days, activity to csv_admin;
    revoke insert on deleted_files from csv_admin;
    -- Limits.  Not the name, because the keys of one would speak for another; and not
    -- whose rights the exports have.
    revoke insert, update on requesters from csv_admin;
    grant select, insert (name), delete on requesters to csv_admin;
    execute format('grant update (%1$s), insert (%1$s) on requesters to csv_admin', (
        select string_agg(quote_ident(attname), ', ')
        from pg_attribute
        where attrelid = 'requesters'::regclass and attnum > 0 and not attisdropped
            and attname not in ('name', 'created_at', 'reader', 'settings')
    ));
    grant execute on function explain_as_reader, preview_as_reader to csv_admin;
end
$$;
comment on function let_admins is $$
Let members of csv_admin see and touch everybody's exports, and set limits.  migrate calls
it; call it after making that role by hand.
$$;
