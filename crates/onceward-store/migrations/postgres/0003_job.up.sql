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

-- Every job that may still want something of somebody: waiting, running, dead and uncertain ones.
CREATE TABLE {schema}.job (
    namespace    text        COLLATE "C" NOT NULL,
    id           uuid        NOT NULL,
    kind         text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    priority     smallint    NOT NULL,
    -- scheduled, ready, retrying, dead or uncertain. That it runs is not written here.
    state        text        NOT NULL,
    -- The token of the last attempt that ended. A job runs under a claim with a larger one.
    token        bigint      NOT NULL,
    attempt      integer     NOT NULL,
    lost         integer     NOT NULL,
    enqueued_at  timestamptz NOT NULL,
    run_at       timestamptz NOT NULL,
    payload      bytea       NOT NULL,
    content_type text        NOT NULL,
    -- What was said about the job and is not the default, as JSON; nothing in SQL looks into it.
    spec         text,
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

-- The lanes: one row per job that is ready.
CREATE TABLE {schema}.job_ready (
    namespace text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    kind      text        COLLATE "C" NOT NULL,
    -- Its tags; empty for a job that runs anywhere.
    route     text        COLLATE "C" NOT NULL,
    -- Whether it is claimed by itself, because it has lost a process.
    alone     boolean     NOT NULL,
    -- The priority, turned round: small goes first.
    rank      smallint    NOT NULL,
    run_at    timestamptz NOT NULL,
    id        uuid        NOT NULL,
    -- The token and the place of the job's row.
    token     bigint      NOT NULL,
    place     tid         NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX job_ready_lane ON {schema}.job_ready (namespace, queue, kind, route, alone, rank, run_at, id);

-- One row per job that is not due yet.
CREATE TABLE {schema}.job_later (
    namespace text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    kind      text        COLLATE "C" NOT NULL,
    route     text        COLLATE "C" NOT NULL,
    rank      smallint    NOT NULL,
    run_at    timestamptz NOT NULL,
    id        uuid        NOT NULL,
    token     bigint      NOT NULL,
    place     tid         NOT NULL
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
