create or replace function list_activities(
    p_limit integer,
    p_requester text default null,
    p_action text default null,
    p_export uuid default null,
    p_from timestamptz default null,
    p_until timestamptz default null,
    p_before_at timestamptz default null,
    p_before_id bigint default null
)
returns setof activities
language sql stable
as $$
    select * from activities
    where (p_requester is null or requester = p_requester)
        and (p_action is null or action = p_action)
        and (p_export is null or export = p_export)
        -- Bounds of an index, also where the planner does not know the value.
        and at >= coalesce(p_from, '-infinity')
        and at < coalesce(p_until, 'infinity')
        and (at, id) < (coalesce(p_before_at, 'infinity'), coalesce(p_before_id, 0))
    order by at desc, id desc
    limit p_limit;
$$;
comment on function list_activities is $$
A page of the log, newest first, after the activity (p_before_at, p_before_id), the last
of the page before.  A null argument restricts nothing.
$$;
