-- Triggers, what they listen to, and what they have heard: as on PostgreSQL.
CREATE TABLE onceward_trigger (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    definition TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE onceward_trigger_watch (
    namespace TEXT NOT NULL,
    trigger TEXT NOT NULL,
    state TEXT NOT NULL,
    kind TEXT,
    queue TEXT,
    body INTEGER NOT NULL
) STRICT;

CREATE TABLE onceward_trigger_heard (
    number INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    trigger TEXT NOT NULL,
    job BLOB NOT NULL,
    token INTEGER NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    spec TEXT,
    error TEXT,
    body BLOB
) STRICT;

-- Terms that run, however far back their cycle lies: one that has lost its lease is found by it.
CREATE INDEX onceward_term_running ON onceward_term (namespace, service) WHERE outcome = 'running';
