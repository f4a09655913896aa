-- 0004: limits of queues, and the permits that workers hold of them. See docs/decisions/010-limits.md.

-- What a queue is limited to; limits_at is NULL where it is not.
ALTER TABLE {schema}.job_queue
    ADD COLUMN concurrency integer,
    ADD COLUMN rate_count  integer,
    ADD COLUMN rate_us     bigint,
    ADD COLUMN burst       integer,
    -- Grows with each change: permits that were given under another one are void.
    ADD COLUMN setting     bigint NOT NULL DEFAULT 0,
    ADD COLUMN limits_at   timestamptz,
    ADD COLUMN limits_by   text;

-- What changes all the time of a queue that is or was limited: beside the row that claims read, not in it.
CREATE TABLE {schema}.job_limit (
    namespace text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    -- Grows with each permit that is given, and each change: who has seen another one looks again.
    version   bigint      NOT NULL,
    -- The starts that are left, in thousandths; when; and how many workers held then.
    tokens    bigint      NOT NULL,
    filled_at timestamptz NOT NULL,
    lent      integer     NOT NULL,
    -- Whether jobs may run that were claimed before it was limited.
    unsettled boolean     NOT NULL,
    PRIMARY KEY (namespace, queue)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- What a session may do in a limited queue.
CREATE TABLE {schema}.job_permit (
    namespace    text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    session      uuid        NOT NULL,
    setting      bigint      NOT NULL,
    wanted       integer     NOT NULL,
    -- How many jobs it may run, and how many count as its own.
    share        integer     NOT NULL,
    held         integer     NOT NULL,
    starts       integer     NOT NULL,
    starts_until timestamptz NOT NULL,
    asked_at     timestamptz NOT NULL,
    PRIMARY KEY (namespace, queue, session)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
CREATE INDEX job_permit_of_session ON {schema}.job_permit (session);
