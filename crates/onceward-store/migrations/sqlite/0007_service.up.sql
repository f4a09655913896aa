-- Services, the terms of their cycles, and schedules: as on PostgreSQL.

-- What services are set to, as one text that no statement looks into. Written under a version.
CREATE TABLE onceward_service (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    setting TEXT NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

-- One row per cycle of a service: the term that was run, or why none was.
CREATE TABLE onceward_term (
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    cycle INTEGER NOT NULL,
    part TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    cycles INTEGER NOT NULL,
    session BLOB,
    owner TEXT,
    token INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (namespace, service, cycle, part)
) STRICT, WITHOUT ROWID;

-- What is to be enqueued when.
CREATE TABLE onceward_schedule (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    next_at INTEGER,
    definition TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX onceward_schedule_due ON onceward_schedule (namespace, next_at) WHERE next_at IS NOT NULL;
