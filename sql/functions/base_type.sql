create or replace function base_type(p_type oid)
returns oid
language sql stable
as $$
    with recursive bases (type, base) as (
        select oid, typbasetype from pg_type where oid = p_type
        union all
        select oid, typbasetype from bases join pg_type on oid = base
    )
    select type from bases where base = 0;
$$;
comment on function base_type is $$
The type below a domain, through all domains in between; any other type itself.
$$;
