create or replace function complete_export(
    p_id uuid, p_attempt integer, p_rows bigint, p_bytes bigint, p_sha256 text,
    p_retention interval default null,
    p_columns jsonb default null, p_snapshot_at timestamptz default null
)
returns boolean
language plpgsql
as $$
begin
    return (
        select held
        from complete_exports(
            jsonb_build_array(jsonb_build_object(
                'id', p_id, 'attempt', p_attempt, 'rows', p_rows, 'bytes', p_bytes,
                'sha256', p_sha256, 'columns', p_columns, 'snapshot_at', p_snapshot_at
            )),
            p_retention
        )
    );
end
$$;
comment on function complete_export is $$
Like complete_exports, for one export.  False if the attempt no longer holds it.
$$;
