create or replace function announce_exports()
returns trigger
language plpgsql
as $$
declare
    changed uuid[];
    woken boolean;
begin
    if tg_op = 'UPDATE' then
        select array_agg(id), bool_or(n.status = 'pending') into changed, woken
        from new_rows as n
        join old_rows as o using (id)
        where (n.status, n.priority, n.run_at, n.waits_for)
            is distinct from (o.status, o.priority, o.run_at, o.waits_for);
    elsif tg_op = 'INSERT' then
        select array_agg(id), count(*) > 0 into changed, woken from new_rows;
    else
        select array_agg(id), false into changed, woken from old_rows;
    end if;
    if changed is null then
        return null;
    end if;
    if tg_op = 'DELETE' and cardinality(changed) <= 20 then
        -- The row is gone when the next notification is heard.
        perform pg_notify('exports_deleted', format('%s %s', id, requested_by)) from old_rows;
    end if;
    if cardinality(changed) > 20 then
        perform pg_notify('exports', '');
    else
        perform pg_notify('exports', id::text) from unnest(changed) as id;
    end if;
    if woken then
        perform pg_notify('exports_pending', '');
    end if;
    return null;
end
$$;
comment on function announce_exports() is $$
Notify the channel exports when a status, or a place in the queue, has changed:
with the id, or once without an id if a statement changed more than twenty exports.
Before that, if up to twenty were deleted, notify exports_deleted with the id, a space,
and requested_by of each.
Notify exports_pending when there is an export to claim.

A notification carries no state: receivers read the rows again.
$$;
