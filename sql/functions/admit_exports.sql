create or replace function admit_exports()
returns trigger
language plpgsql
security definer
set search_path to public, pg_temp
set enable_seqscan to off
as $$
declare
    touched text[];
begin
    -- Most have none, and this is asked with each change of an export.
    if not exists (select from requesters where max_running is not null) then
        return null;
    end if;
    if tg_op = 'INSERT' then
        select array_agg(distinct requested_by) into touched
        from new_rows
        where waits_for = 'limit';
    elsif tg_op = 'DELETE' then
        select array_agg(distinct requested_by) into touched
        from old_rows
        where status = 'processing' or waits_for = 'worker';
    else
        select array_agg(distinct n.requested_by) into touched
        from new_rows as n
        join old_rows as o using (id)
        where (n.status, n.waits_for) is distinct from (o.status, o.waits_for)
            and n.status <> 'processing'
            and n.waits_for is distinct from 'worker'
            and (n.waits_for = 'limit' or o.status = 'processing' or o.waits_for = 'worker');
    end if;
    if touched is not null then
        perform admit(name)
        from (
            select name from requesters
            where name = any(touched) and max_running is not null
            order by name
        ) as _;
    end if;
    return null;
end
$$;
comment on function admit_exports() is $$
Call admit for requesters with a limit, when an export of theirs has ended or is new.
$$;

-- Else a trigger on a table of their own lets anybody lock rows of requesters.
revoke execute on function admit_exports from public;
