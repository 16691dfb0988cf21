create or replace function announce_keys()
returns trigger
language plpgsql
as $$
begin
    perform pg_notify('exports_keys', '');
    return null;
end
$$;
comment on function announce_keys() is $$
Notify the channel exports_keys: a key, or what it allows, or a link has changed.
$$;
