create or replace function give_functions(p_reader text)
returns void
language plpgsql
set search_path to public, pg_temp
as $$
declare
    model record;
    name text;
    owner oid;
    made regprocedure;
    may_create constant boolean := has_schema_privilege(p_reader::name, 'public', 'create');
begin
    for model in
        select what, proname, proargtypes, pg_get_functiondef(oid) as definition
        from unnest('{explain,preview,find_relation}'::text[]) as what
        join pg_proc on oid = to_regproc(function_of('csv_reader', what))
    loop
        name := function_of(p_reader, model.what);
        select proowner into owner
        from pg_proc
        where pronamespace = 'public'::regnamespace and proname = name and proargtypes = model.proargtypes;
        if owner <> to_regrole(quote_ident(p_reader)) then
            raise duplicate_function using
                message = format('%s owns a function public.%I', owner::regrole, name),
                hint = 'Drop or rename it, or take another name for the reader.';
        end if;
        execute format(
            'create or replace function public.%I%s',
            name, substr(model.definition, strpos(model.definition, '('))
        );
        continue when owner is not null;
        select oid into made
        from pg_proc
        where pronamespace = 'public'::regnamespace and proname = name and proargtypes = model.proargtypes;
        execute format('comment on function %s is %L', made, format('Like %s, for %s.', model.proname, p_reader));
        if model.what <> 'find_relation' then
            execute format('revoke execute on function %s from public', made);
            execute format('grant execute on function %s to csv_service', made);
        end if;
        -- To own it the reader needs CREATE for a moment; the transaction hides it.
        if not may_create then
            execute format('grant create on schema public to %I', p_reader);
        end if;
        execute format('alter function %s owner to %I', made, p_reader);
        if not may_create then
            execute format('revoke create on schema public from %I', p_reader);
        end if;
    end loop;
end
$$;
comment on function give_functions is $$
Make the functions of p_reader, which are those of csv_reader with another owner; or
replace them.
$$;
