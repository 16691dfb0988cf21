create or replace function who_asks(out actor text, out key_id text, out address text)
language plpgsql stable
as $$
begin
    actor := session_user;
    if pg_has_role(session_user, 'csv_service', 'member') then
        actor := coalesce(nullif(current_setting('exports.requester', true), ''), actor);
        key_id := nullif(current_setting('exports.key', true), '');
        address := nullif(current_setting('exports.address', true), '');
    end if;
    address := coalesce(address, host(inet_client_addr()));
end
$$;
comment on function who_asks is $$
Who does something in this transaction, with which key, and from where.

The API says for whom it acts by the settings exports.requester, exports.key and
exports.address.  They are believed of members of csv_service alone.
$$;
