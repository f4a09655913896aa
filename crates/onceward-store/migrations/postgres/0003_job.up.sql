-- 0003: jobs, the lanes they wait in, the claims and sessions that run them.
--
-- A job's row is written when it is enqueued and when an attempt ends. What waits has a narrow row in a lane, which the
-- claim deletes; a claim is one row, whatever it took. See docs/decisions/009-jobs.md.

-- One row per worker: the only thing that is renewed.
CREATE TABLE {schema}.session (
    id         uuid        NOT NULL PRIMARY KEY,
    owner      text        NOT NULL,
    token      bigint      NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ttl_ms     bigint      NOT NULL,
    draining   boolean     NOT NULL DEFAULT false,
    about      text        NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- Every job that may still want something of somebody: waiting, running, dead and uncertain ones. What has a fixed
-- width stands first: such rows are smaller, and read faster.
CREATE TABLE {schema}.job (
    -- The token of the last attempt that ended. A job runs under a claim with a larger one.
    token        bigint      NOT NULL,
    enqueued_at  timestamptz NOT NULL,
    run_at       timestamptz NOT NULL,
    attempt      integer     NOT NULL,
    lost         integer     NOT NULL,
    id           uuid        NOT NULL,
    priority     smallint    NOT NULL,
    namespace    text        COLLATE "C" NOT NULL,
    kind         text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    -- scheduled, ready, retrying, dead or uncertain. That it runs is not written here.
    state        text        NOT NULL,
    -- NULL: application/json, which nearly all are.
    content_type text,
    payload      bytea       NOT NULL,
    -- What was said about the job and is not the default, as JSON; nothing in SQL looks into it.
    spec         text,
    -- What SQL must know of that: its tags, as its lane spells them; whose jobs run one after the other; and the dedupe
    -- key that is free once it was started or has ended.
    route        text        COLLATE "C",
    ordering_key text        COLLATE "C",
    dedupe_key   text        COLLATE "C",
    -- The token under which its handler was started, of jobs that have that written down.
    begun        bigint,
    attempted_at timestamptz,
    finished_at  timestamptz,
    worker       text,
    error        text,
    result       bytea,
    result_type  text,
    result_size  bigint,
    -- The attempts before the last one, as JSON.
    past         text,
    -- It was running when somebody called it off, and why. Read under the lock of the row, unlike job_cancel.
    called_off   text,
    PRIMARY KEY (namespace, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05
);

-- Those that wait for a person.
CREATE INDEX job_wanted ON {schema}.job (namespace, state, id) WHERE state IN ('dead', 'uncertain');

-- Jobs that are over: those that succeeded, and those that were cancelled. A row lies in the partition of the day after
-- which it may be forgotten, and goes with it.
CREATE TABLE {schema}.job_done (
    LIKE {schema}.job,
    forget_at    timestamptz NOT NULL
) PARTITION BY RANGE (forget_at);
CREATE INDEX job_done_of_id ON {schema}.job_done (namespace, id);
-- What is kept for longer than partitions are made ahead, and what found none.
CREATE TABLE {schema}.job_done_rest PARTITION OF {schema}.job_done DEFAULT;

-- The lanes: one row per job that is ready. A lane is known by a hash of its four names, which keeps the index small and
-- its comparisons cheap; the names decide where two lanes should ever share one. It is
-- hashtextextended(route, hashtextextended(kind, hashtextextended(queue, hashtextextended(namespace, 0)))).
CREATE TABLE {schema}.job_ready (
    run_at    timestamptz NOT NULL,
    -- The token and the place of the job's row.
    token     bigint      NOT NULL,
    lane      bigint      NOT NULL,
    id        uuid        NOT NULL,
    place     tid         NOT NULL,
    -- The priority, turned round: small goes first.
    rank      smallint    NOT NULL,
    -- Whether it is claimed by itself, because it has lost a process.
    alone     boolean     NOT NULL,
    namespace text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    kind      text        COLLATE "C" NOT NULL,
    -- Its tags; empty for a job that runs anywhere.
    route     text        COLLATE "C" NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX job_ready_lane ON {schema}.job_ready (lane, alone, rank, run_at, id);

-- One row per job that is not due yet.
CREATE TABLE {schema}.job_later (
    run_at    timestamptz NOT NULL,
    token     bigint      NOT NULL,
    id        uuid        NOT NULL,
    place     tid         NOT NULL,
    rank      smallint    NOT NULL,
    namespace text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    kind      text        COLLATE "C" NOT NULL,
    route     text        COLLATE "C" NOT NULL,
    -- Whose jobs run one after the other: once it is due, it goes where the others of its key wait.
    ordering_key text     COLLATE "C"
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX job_later_due ON {schema}.job_later (run_at, id);

-- One row per claim, whatever it took; gone when none of its jobs is left.
CREATE TABLE {schema}.job_claim (
    id         uuid        NOT NULL PRIMARY KEY,
    namespace  text        COLLATE "C" NOT NULL,
    session    uuid        NOT NULL,
    token      bigint      NOT NULL,
    claimed_at timestamptz NOT NULL,
    jobs       uuid[]      NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
-- Ids don't compress; trying costs more than the claim.
ALTER TABLE {schema}.job_claim ALTER COLUMN jobs SET STORAGE EXTERNAL;
CREATE INDEX job_claim_of_session ON {schema}.job_claim (session);

-- Running jobs that somebody has called off. Almost always empty.
CREATE TABLE {schema}.job_cancel (
    namespace text        COLLATE "C" NOT NULL,
    id        uuid        NOT NULL,
    asked_at  timestamptz NOT NULL,
    actor     text        NOT NULL,
    reason    text,
    PRIMARY KEY (namespace, id)
);

-- Jobs that are due and wait for an earlier one of the same ordering key.
CREATE TABLE {schema}.job_held (
    run_at       timestamptz NOT NULL,
    token        bigint      NOT NULL,
    id           uuid        NOT NULL,
    place        tid         NOT NULL,
    rank         smallint    NOT NULL,
    namespace    text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    kind         text        COLLATE "C" NOT NULL,
    route        text        COLLATE "C" NOT NULL,
    ordering_key text        COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX job_held_of_key ON {schema}.job_held (namespace, ordering_key, rank, run_at, id);

-- The one job of an ordering key that has been let through, until it has ended.
CREATE TABLE {schema}.job_gate (
    namespace    text        COLLATE "C" NOT NULL,
    ordering_key text        COLLATE "C" NOT NULL,
    id           uuid        NOT NULL,
    PRIMARY KEY (namespace, ordering_key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Ordering keys of which something has changed: a job has come, or the one that was let through has ended. Emptied by
-- whoever lets the next ones through.
CREATE TABLE {schema}.job_arrived (
    namespace    text        COLLATE "C" NOT NULL,
    ordering_key text        COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- One row: whoever has locked it lets jobs through.
CREATE TABLE {schema}.job_turn (
    taken_at timestamptz NOT NULL
);
INSERT INTO {schema}.job_turn (taken_at) VALUES (timestamptz 'epoch');

-- Keys under which a second enqueue finds the first one's job: idempotency keys, and dedupe keys.
CREATE TABLE {schema}.job_key (
    namespace   text        COLLATE "C" NOT NULL,
    -- idempotency or dedupe
    purpose     text        COLLATE "C" NOT NULL,
    key         text        COLLATE "C" NOT NULL,
    id          uuid        NOT NULL,
    fingerprint bytea,
    -- NULL: until its job is started, or has ended.
    expires_at  timestamptz,
    until_started boolean   NOT NULL,
    PRIMARY KEY (namespace, purpose, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- What queues are set to. A queue without a row has the defaults.
CREATE TABLE {schema}.job_queue (
    namespace    text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text,
    PRIMARY KEY (namespace, queue)
);

-- Makes partitions of the coming days, some at a time, and drops those whose day has passed. It runs as the owner, because nobody
-- else may create or drop; it takes no argument, and waits for nobody longer than a moment.
CREATE FUNCTION {schema}.rotate_jobs() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    today date := ({clock} AT TIME ZONE 'UTC')::date;
    day date;
    name text;
BEGIN
    FOR day IN
        SELECT today + n
        FROM generate_series(0, 33) n
        WHERE NOT EXISTS (SELECT FROM pg_class c
                          WHERE c.relnamespace = '{schema}'::regnamespace
                            AND c.relname = 'job_done_' || to_char(today + n, 'YYYYMMDD'))
        ORDER BY n
        LIMIT 10
    LOOP
        name := 'job_done_' || to_char(day, 'YYYYMMDD');
        BEGIN
            EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.job_done INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE {schema}.job_done ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
                           name, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
        EXCEPTION
            -- Rows of that day lie in the rest already, and are forgotten there.
            WHEN check_violation THEN NULL;
        END;
    END LOOP;
    FOR name IN
        SELECT c.relname
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '{schema}.job_done'::regclass AND c.relname ~ '^job_done_[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < today
    LOOP
        EXECUTE format('DROP TABLE {schema}.%I', name);
    END LOOP;
EXCEPTION
    -- Somebody reads the whole table: the next one does it.
    WHEN lock_not_available THEN NULL;
END
$$;

REVOKE ALL ON FUNCTION {schema}.rotate_jobs() FROM PUBLIC;
SELECT {schema}.rotate_jobs();
