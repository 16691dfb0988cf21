create or replace function sources_of(p_reader text)
returns table (
    source text, kind text, comment text, estimated_rows bigint, bytes bigint, columns jsonb
)
language sql stable
as $$
    select
        public.readable(c.oid::regclass::text) as source,
        case c.relkind
            when 'r' then 'table'
            when 'p' then 'partitioned table'
            when 'v' then 'view'
            when 'm' then 'materialized view'
            when 'f' then 'foreign table'
        end as kind,
        public.readable(obj_description(c.oid, 'pg_class')) as comment,
        coalesce(size.rows, 0)::bigint as estimated_rows,
        coalesce(size.bytes, 0)::bigint as bytes,
        (
            select jsonb_agg(
                jsonb_build_object(
                    'name', public.readable(attname),
                    'type', public.readable(format_type(atttypid, atttypmod)),
                    'nullable', not attnotnull,
                    'comment', public.readable(col_description(attrelid, attnum))
                )
                order by attnum
            )
            from pg_attribute
            where attrelid = c.oid and attnum > 0 and not attisdropped
                and has_column_privilege(p_reader::name, attrelid, attnum, 'select')
        ) as columns
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    -- From the catalogs alone: pg_table_size and pg_partition_tree would wait for locks.
    cross join lateral (
        with recursive parts (id) as (
            select c.oid
            union all
            select inhrelid from parts join pg_inherits on inhparent = id and c.relkind = 'p'
        )
        select
            sum(greatest(part.reltuples, 0)) as rows,
            sum((part.relpages + coalesce(toast.relpages, 0)) * current_setting('block_size')::bigint) as bytes
        from parts
        join pg_class as part on part.oid = parts.id and part.relkind <> 'p'
        left join pg_class as toast on toast.oid = part.reltoastrelid
    ) as size
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
        and not c.relispartition
        and n.nspname not in ('pg_catalog', 'information_schema')
        and n.nspname !~ '^pg_(toast|temp)'
        and has_schema_privilege(p_reader::name, n.oid, 'usage')
        and has_any_column_privilege(p_reader::name, c.oid, 'select');
$$;
comment on function sources_of is $$
What p_reader may read: each relation, under the name to export it by, with those of its
columns that p_reader may read.  Rows and bytes are the planner's estimates.
$$;
