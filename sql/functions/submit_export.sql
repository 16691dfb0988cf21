create or replace function submit_export()
returns trigger
language plpgsql
as $$
declare
    is_of_session constant boolean := new.search_path is null;
begin
    -- My search_path is the session's: what a name in the request means there.
    if is_of_session then
        new.search_path := public.session_search_path();
    end if;
    return public.prepare_export(new, is_of_session);
end
$$;
comment on function submit_export() is $$
-> pending: compile the request into the SELECT that will run.  Raise an error if
csv_reader could not run it, or if exports.max_pending exports are waiting already.
$$;
