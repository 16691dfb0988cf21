create or replace function guard_activities()
returns trigger
language plpgsql
as $$
begin
    raise object_not_in_prerequisite_state using
        message = 'what is in the log of activities stays as it is',
        hint = 'Old activities are deleted by prune_activities.';
end
$$;
comment on function guard_activities() is $$
Refuse to change the log of activities, or to empty it.
$$;
