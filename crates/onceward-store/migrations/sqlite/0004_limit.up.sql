-- Limits of queues, and the permits that workers hold of them: as on PostgreSQL, under one lock for all that is written.

-- What a queue is limited to; limits_at is NULL where it is not. Permits of another setting are void.
ALTER TABLE onceward_job_queue ADD COLUMN concurrency INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN rate_count INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN rate_us INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN burst INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN setting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE onceward_job_queue ADD COLUMN limits_at INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN limits_by TEXT;

-- What changes all the time of a queue that is or was limited: the starts that are left, in thousandths; when; how many
-- workers held then; and whether jobs may run that were claimed before it was limited.
CREATE TABLE onceward_job_limit (
    namespace TEXT NOT NULL,
    queue TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    filled_at INTEGER NOT NULL,
    lent INTEGER NOT NULL,
    unsettled INTEGER NOT NULL,
    PRIMARY KEY (namespace, queue)
) STRICT, WITHOUT ROWID;

-- What a session may do in a limited queue.
CREATE TABLE onceward_job_permit (
    namespace TEXT NOT NULL,
    queue TEXT NOT NULL,
    session BLOB NOT NULL,
    setting INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    share INTEGER NOT NULL,
    held INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    starts_until INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, queue, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX onceward_job_permit_session ON onceward_job_permit (session);
