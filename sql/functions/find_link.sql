create or replace function find_link(p_digest bytea)
returns table (id text, export uuid)
language plpgsql
set search_path to public, pg_temp
as $$
begin
    if not current_setting('transaction_read_only')::boolean then
        update export_links
        set last_used_at = now()
        where export_links.id = (
            select l.id from export_links as l
            where l.digest = p_digest
                and coalesce(l.last_used_at < now() - interval '1 minute', true)
            for update skip locked
        );
    end if;
    return query select l.id, l.export from live_links as l where l.digest = p_digest;
end
$$;
revoke execute on function find_link from public;
comment on function find_link is $$
The link whose secret part has the SHA-256 p_digest, if it leads to a file now.  Notes
that it is used, unless the server is read-only or somebody has locked the link.
$$;
