create or replace function guard_export()
returns trigger
language plpgsql
as $$
declare
    by_hand text[];
    derived constant text[] := '{progress,file_path}';
begin
    if new.transition is null then
        if new.status = 'cancelled' and old.status in ('pending', 'processing') then
            by_hand := '{status}';
        elsif new.status = old.status and old.status = 'pending' then
            by_hand := '{priority,run_at,max_attempts}';
        elsif new.status = old.status and old.status <> 'processing' then
            by_hand := '{expires_at}';
        else
            raise object_not_in_prerequisite_state using
                message = format(
                    'export %s is %s: it %s', old.id, old.status,
                    case new.status
                        when 'cancelled' then 'can no longer be cancelled'
                        when old.status then 'cannot be changed by hand'
                        else 'cannot be made ' || new.status || ' by hand'
                    end
                ),
                hint = case
                    when old.status in ('pending', 'processing')
                        then 'It can be cancelled: select cancel_export(id).'
                    when old.status in ('failed', 'cancelled')
                        then 'It can be started again: select retry_export(id).'
                    else 'It has ended. Submit a new one.'
                end;
        end if;
        if to_jsonb(new) - by_hand - derived
            <> to_jsonb(old) - by_hand - derived
        then
            raise object_not_in_prerequisite_state using
                message = format(
                    'export %s is %s: only %s can be changed by hand',
                    old.id, old.status, array_to_string(by_hand, ', ')
                ),
                hint = 'To ask for something else, submit a new export.';
        end if;
        if new.priority > old.priority then
            perform public.check_priority(new.requested_by, new.priority);
        end if;
    elsif (new.transition, old.status, new.status) not in (
        ('claim', 'pending', 'processing'),
        ('heartbeat', 'processing', 'processing'),
        ('complete', 'processing', 'completed'),
        ('fail', 'processing', 'failed'),
        ('fail', 'processing', 'pending'),
        ('rescue', 'processing', 'failed'),
        ('rescue', 'processing', 'pending'),
        ('release', 'processing', 'pending'),
        ('retry', 'failed', 'pending'),
        ('retry', 'cancelled', 'pending'),
        ('due', 'pending', 'pending'),
        ('admit', 'pending', 'pending')
    ) or new.attempt <> old.attempt + (new.transition = 'claim')::int
    then
        raise object_not_in_prerequisite_state using
            message = format(
                '%s cannot take an export from %s to %s', new.transition, old.status, new.status
            );
    end if;
    if old.status = 'processing' and new.status <> 'processing' then
        new.history := old.history || jsonb_strip_nulls(jsonb_build_object(
            'attempt', old.attempt,
            'worker', old.worker,
            'startedAt', old.started_at,
            'endedAt', clock_timestamp(),
            'outcome', case new.transition
                when 'complete' then 'completed'
                when 'fail' then 'failed'
                when 'rescue' then 'lost'
                when 'release' then 'released'
                else 'cancelled'
            end,
            'error', case when new.transition in ('fail', 'rescue') then new.error end
        ));
    end if;
    if new.status <> 'pending' then
        new.waits_for := null;
    elsif new.transition = 'release' then
        new.waits_for := 'worker';
    elsif old.status <> 'pending' or new.transition = 'due'
        or new.priority <> old.priority
        or new.run_at <> old.run_at and (old.waits_for = 'time' or new.run_at > clock_timestamp())
    then
        select * into new.waits_for, new.turn
        from public.queue_up(new.requested_by, new.priority, new.run_at);
    end if;
    new.transition := null;
    if new.status = 'cancelled' and old.status <> 'cancelled' then
        if old.status = 'processing' and has_table_privilege('public.live_exports', 'select') then
            select rows, bytes into new.rows, new.bytes
            from public.live_exports
            where id = old.id;
        end if;
        new.worker := null;
        new.lease_expires_at := null;
        new.finished_at := clock_timestamp();
    elsif new.status = 'pending' and old.status <> 'pending' then
        new.rows := 0;
        new.bytes := 0;
        new.started_at := null;
        new.finished_at := null;
    end if;
    return new;
end
$$;
comment on function guard_export() is $$
Allow only the transitions of the state diagram.

The functions name their transition in the column transition, which this trigger
clears.  By hand, an UPDATE to 'cancelled' cancels, a pending export may be
rescheduled, and the expiry of an ended one may be changed.  When an attempt ends,
its end is added to history.  A pending export gets a place in the queue.
$$;
