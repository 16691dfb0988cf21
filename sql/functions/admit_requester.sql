create or replace function admit_requester()
returns trigger
language plpgsql
security definer
set search_path to public, pg_temp
as $$
begin
    if tg_op <> 'INSERT' then
        perform admit(old.name);
    end if;
    if tg_op <> 'DELETE' then
        perform admit(new.name);
    end if;
    return null;
end
$$;
comment on function admit_requester() is $$
Call admit when the limit of a requester has changed.
$$;

-- Else a trigger on a table of their own lets anybody lock rows of requesters.
revoke execute on function admit_requester from public;
