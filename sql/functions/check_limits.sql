create or replace function check_limits(p_requester text)
returns requesters
language plpgsql
security definer
set search_path to public, pg_temp
set enable_seqscan to off
set enable_bitmapscan to off
as $$
declare
    max_pending constant bigint := nullif(current_setting('exports.max_pending', true), '');
    theirs requesters;
    bytes_today bigint;
    is_service constant boolean := pg_has_role(session_user, 'csv_service', 'member');
begin
    if max_pending is not null and exists (
        select from exports where status = 'pending' offset max_pending - 1 limit 1
    ) then
        raise configuration_limit_exceeded using
            message = format('%s exports are waiting already', max_pending),
            hint = 'Submit it again when some of them are done.';
    end if;
    -- Others' limits are nobody's business.
    select * into theirs
    from requesters
    where name = p_requester
        and speaks_for(p_requester);
    if is_service and current_setting('exports.dry_run', true) = 'on' then
        return theirs;
    end if;
    if theirs.max_pending is not null and theirs.max_pending <= (
        select count(*)
        from (
            select from exports
            where status = 'pending' and requested_by = p_requester
            limit theirs.max_pending
        ) as _
    ) then
        raise configuration_limit_exceeded using
            message = format(
                '%s exports of %s are waiting already', theirs.max_pending, p_requester
            ),
            hint = 'Submit it again when some of them are done.',
            column = 'max_pending';
    end if;
    if theirs.max_bytes_a_day is not null then
        select bytes into bytes_today
        from requester_days
        where requester = p_requester and day = (now() at time zone 'UTC')::date;
        if coalesce(bytes_today, 0) >= theirs.max_bytes_a_day then
            raise configuration_limit_exceeded using
                message = format(
                    'the exports of %s made %s bytes today, and %s are allowed',
                    p_requester, coalesce(bytes_today, 0), theirs.max_bytes_a_day
                ),
                hint = 'Submit it again after midnight, UTC.',
                column = 'max_bytes_a_day';
        end if;
    end if;
    return theirs;
end
$$;
comment on function check_limits is $$
The row of p_requester in requesters, with their limits.  Raise an error if they, or all
together, may not submit another export now.
$$;
