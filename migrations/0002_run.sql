-- Runs: the record, its attempts and episodes, its history, and the work still owed to it.

-- The smallest UUIDv7 of an instant: the bounds of the partitions of run.
CREATE FUNCTION uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE TABLE run (
    id            uuid NOT NULL PRIMARY KEY,
    project       text NOT NULL,
    name          text,
    labels        jsonb NOT NULL DEFAULT '{}',
    spec          jsonb NOT NULL,
    spec_hash     text NOT NULL,
    queue         text,
    status        text NOT NULL CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    pending       jsonb,
    failure       jsonb,
    exit_code     integer,
    attempt       integer NOT NULL DEFAULT 1,
    round         bigint NOT NULL DEFAULT 0,
    backend       jsonb,
    cluster       text,
    flags         text[] NOT NULL DEFAULT '{}',
    logs          jsonb,
    -- The reasoning of the last placement (PlacementReport).
    placement     jsonb,
    created_at    timestamptz NOT NULL DEFAULT now(),
    dispatched_at timestamptz,
    started_at    timestamptz,
    finished_at   timestamptz,
    created_by    text NOT NULL,
    -- Where it comes from and what it used, where that is known (Provenance, Usage).
    provenance    jsonb,
    usage         jsonb,
    -- Set at the insert of a run that ended elsewhere (Imported): nothing of it was executed by this server.
    imported      jsonb,
    -- Grows with each change: the guard of the Recorder and the ETag.
    version       bigint NOT NULL DEFAULT 1,
    event_seq     bigint NOT NULL DEFAULT 1,
    -- The transaction that last changed what rows of lists show: where a watched list is resumed.
    shown_xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT run_pending_reason CHECK ((status = 'pending') = (pending IS NOT NULL)),
    CONSTRAINT run_failure_reason CHECK ((status = 'failed') = (failure IS NOT NULL)),
    CONSTRAINT run_finish_time CHECK ((status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
) PARTITION BY RANGE (id);

CREATE TABLE run_default PARTITION OF run DEFAULT WITH (fillfactor = 80);
CREATE INDEX run_by_project ON run (project, id DESC);
CREATE INDEX run_by_status ON run (project, status, id DESC);
CREATE INDEX run_by_name ON run (project, name, id DESC) WHERE name IS NOT NULL;
CREATE INDEX run_by_label ON run USING gin (labels jsonb_path_ops) WHERE labels <> '{}';

-- Terminal is for ever: the only legal exit is from lost to a real result.
CREATE FUNCTION refuse_terminal_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'run % is %, its end cannot change', OLD.id, OLD.status USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER run_terminal_is_final BEFORE UPDATE ON run FOR EACH ROW
    WHEN (OLD.finished_at IS NOT NULL AND (OLD.failure ->> 'code') IS DISTINCT FROM 'lost'
          AND (NEW.status, NEW.finished_at, NEW.exit_code, NEW.attempt)
              IS DISTINCT FROM (OLD.status, OLD.finished_at, OLD.exit_code, OLD.attempt))
    EXECUTE FUNCTION refuse_terminal_change();

CREATE TABLE attempt (
    run_id        uuid NOT NULL,
    attempt       integer NOT NULL,
    status        text NOT NULL,
    cluster       text,
    namespace     text,
    object        text,
    -- Pinned once: facts about another UID never touch the run.
    uid           text,
    failure       jsonb,
    exit_code     integer,
    dispatched_at timestamptz,
    started_at    timestamptz,
    finished_at   timestamptz,
    PRIMARY KEY (run_id, attempt)
);
CREATE FUNCTION refuse_second_uid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'attempt % of run % is pinned to %', OLD.attempt, OLD.run_id, OLD.uid USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER attempt_has_one_uid BEFORE UPDATE ON attempt FOR EACH ROW
    WHEN (OLD.uid IS NOT NULL AND NEW.uid IS DISTINCT FROM OLD.uid) EXECUTE FUNCTION refuse_second_uid();

CREATE TABLE episode (
    run_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    episode    text NOT NULL,
    node       text,
    exit_code  integer,
    signal     integer,
    reason     text,
    started_at timestamptz,
    ended_at   timestamptz,
    PRIMARY KEY (run_id, attempt, episode)
);

-- Insert-only. Partitioned by time; a partition can be dropped without touching runs.
CREATE TABLE run_event (
    run_id  uuid NOT NULL,
    seq     bigint NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    kind    text NOT NULL,
    attempt integer NOT NULL,
    message text NOT NULL,
    data    jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, seq, at)
) PARTITION BY RANGE (at);
CREATE TABLE run_event_default PARTITION OF run_event DEFAULT;

-- Intents to start: one row for each run that is not over. Nothing else is needed to go on after a crash.
CREATE TABLE dispatch (
    run_id           uuid PRIMARY KEY,
    attempt          integer NOT NULL,
    project          text NOT NULL,
    -- place: a cluster is to be chosen; start: to be handed to it; watch: it is there.
    phase            text NOT NULL DEFAULT 'place' CHECK (phase IN ('place', 'start', 'watch')),
    cluster          text,
    cancel_requested boolean NOT NULL DEFAULT false,
    not_before       timestamptz NOT NULL DEFAULT now(),
    claimed_until    timestamptz,
    tries            integer NOT NULL DEFAULT 0,
    last_error       text
) WITH (fillfactor = 70);
CREATE INDEX dispatch_due ON dispatch (phase, not_before) WHERE phase <> 'watch';
CREATE INDEX dispatch_of_cluster ON dispatch (cluster, phase, run_id);
CREATE INDEX dispatch_cancels ON dispatch (cluster) WHERE cancel_requested;

-- Intents to finish: an attempt is over; its object is stopped if need be, its logs are sealed, then it is released.
CREATE TABLE cleanup (
    run_id        uuid NOT NULL,
    attempt       integer NOT NULL,
    cluster       text,
    backend       jsonb NOT NULL,
    -- Something of it may still run and must be stopped first.
    stop          boolean NOT NULL DEFAULT false,
    not_before    timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    tries         integer NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, attempt)
);
CREATE INDEX cleanup_due ON cleanup (cluster, not_before);

-- Makes the partitions of run and run_event for the month of an instant, if they are not there.
CREATE FUNCTION ensure_partitions(instant timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    lower_bound timestamptz := date_trunc('month', instant, 'UTC');
    upper_bound timestamptz := date_trunc('month', instant, 'UTC') + interval '1 month';
    suffix text := to_char(instant AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('qwex partitions'));
    IF to_regclass('run_' || suffix) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF run FOR VALUES FROM (%L) TO (%L) WITH (fillfactor = 80)',
            'run_' || suffix, uuid_floor(lower_bound), uuid_floor(upper_bound));
    END IF;
    IF to_regclass('run_event_' || suffix) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF run_event FOR VALUES FROM (%L) TO (%L)',
            'run_event_' || suffix, lower_bound, upper_bound);
    END IF;
END
$$;
SELECT ensure_partitions(now() - interval '1 month');
SELECT ensure_partitions(now());
SELECT ensure_partitions(now() + interval '1 month');
