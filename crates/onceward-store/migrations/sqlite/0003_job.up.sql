-- Jobs, the lanes they wait in, the claims and sessions that run them: as on PostgreSQL, with rowids for places.

-- One row per worker: the only thing that is renewed. Whether it has run out is decided by (boot_id, expires_boot).
CREATE TABLE onceward_session (
    id BLOB NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    token INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    expires_boot INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    ttl_us INTEGER NOT NULL,
    draining INTEGER NOT NULL,
    about TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Every job that may still want something of somebody: waiting, running, dead and uncertain ones.
CREATE TABLE onceward_job (
    place INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    token INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    content_type TEXT NOT NULL,
    spec TEXT,
    begun INTEGER,
    attempted_at INTEGER,
    finished_at INTEGER,
    worker TEXT,
    error TEXT,
    result BLOB,
    result_type TEXT,
    result_size INTEGER,
    past TEXT
) STRICT;
CREATE UNIQUE INDEX onceward_job_id ON onceward_job (namespace, id);
CREATE INDEX onceward_job_wanted ON onceward_job (namespace, state, id) WHERE state IN ('dead', 'uncertain');
CREATE INDEX onceward_job_dead ON onceward_job (finished_at) WHERE state = 'dead';

-- Jobs that are over: those that succeeded, and those that were cancelled. `place` is the time at which a row may be
-- forgotten, in milliseconds, times 2^20, and a number that is free there: what may be forgotten lies at the left edge.
CREATE TABLE onceward_job_done (
    place INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    token INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    content_type TEXT NOT NULL,
    spec TEXT,
    begun INTEGER,
    attempted_at INTEGER,
    finished_at INTEGER,
    worker TEXT,
    error TEXT,
    result BLOB,
    result_type TEXT,
    result_size INTEGER,
    past TEXT
) STRICT;
CREATE INDEX onceward_job_done_id ON onceward_job_done (namespace, id);

-- The lanes: one row per job that is ready. `rank` is the priority, turned round; `job` the place of its row.
CREATE TABLE onceward_job_ready (
    namespace TEXT NOT NULL,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    route TEXT NOT NULL,
    alone INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (namespace, queue, kind, route, alone, rank, run_at, id)
) STRICT, WITHOUT ROWID;

-- One row per job that is not due yet.
CREATE TABLE onceward_job_later (
    run_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    namespace TEXT NOT NULL,
    queue TEXT NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (run_at, id, namespace)
) STRICT, WITHOUT ROWID;
CREATE INDEX onceward_job_later_queue ON onceward_job_later (namespace, queue);

-- Ordering keys that are taken: by the job that was let in under it and has not ended yet.
CREATE TABLE onceward_job_first (
    namespace TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (namespace, ordering_key)
) STRICT, WITHOUT ROWID;

-- The jobs that are due and wait for the end of that one.
CREATE TABLE onceward_job_held (
    namespace TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    rank INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    alone INTEGER NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (namespace, ordering_key, rank, run_at, id)
) STRICT, WITHOUT ROWID;

-- One row per claim, whatever it took; gone when none of its jobs is left. `jobs`: their ids, 16 bytes each.
CREATE TABLE onceward_job_claim (
    id BLOB NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    session BLOB NOT NULL,
    token INTEGER NOT NULL,
    claimed_at INTEGER NOT NULL,
    jobs BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX onceward_job_claim_session ON onceward_job_claim (session);

-- Running jobs that somebody has called off.
CREATE TABLE onceward_job_cancel (
    namespace TEXT NOT NULL,
    id BLOB NOT NULL,
    asked_at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

-- Keys under which a second enqueue finds the first one's job: `purpose` is idempotency or dedupe. `expires_at` NULL:
-- until its job has ended, or has been started.
CREATE TABLE onceward_job_key (
    namespace TEXT NOT NULL,
    purpose TEXT NOT NULL,
    key TEXT NOT NULL,
    id BLOB NOT NULL,
    fingerprint BLOB,
    expires_at INTEGER,
    until_started INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, purpose, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX onceward_job_key_dedupe ON onceward_job_key (namespace, id) WHERE purpose = 'dedupe';
CREATE INDEX onceward_job_key_expires ON onceward_job_key (expires_at) WHERE expires_at IS NOT NULL;

-- What queues are set to. A queue without a row has the defaults.
CREATE TABLE onceward_job_queue (
    namespace TEXT NOT NULL,
    queue TEXT NOT NULL,
    paused_at INTEGER,
    paused_by TEXT,
    pause_reason TEXT,
    PRIMARY KEY (namespace, queue)
) STRICT, WITHOUT ROWID;
