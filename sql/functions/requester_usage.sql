create or replace function requester_usage(
    p_requester text, out running bigint, out pending bigint, out bytes_today bigint
)
language sql volatile
set search_path to public, pg_temp
set enable_seqscan to off
set enable_bitmapscan to off
as $$
    select
        (
            select count(*) from exports
            where status = 'processing' and requested_by = p_requester
        ),
        (
            select count(*) from exports
            where status = 'pending' and requested_by = p_requester
        ),
        coalesce(
            (
                select bytes from requester_days
                where requester = p_requester and day = (now() at time zone 'UTC')::date
            ),
            0
        );
$$;
comment on function requester_usage is $$
How many exports of p_requester run and wait, and how many bytes of files were made for
them today, by UTC.  Bytes are counted for requesters with max_bytes_a_day alone.
$$;
