create or replace function claim_export(
    p_worker text, p_lease interval, p_floors timestamptz[] default '{}',
    p_limit integer default 1
)
returns setof exports
language plpgsql
as $$
begin
    return query select * from claim_exports(p_worker, p_lease, '{}', p_limit);
end
$$;
comment on function claim_export is $$
Like claim_exports, without floors, for workers of former versions.
$$;
