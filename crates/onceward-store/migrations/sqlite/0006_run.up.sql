-- The journals of runs, and what arrives for them: as on PostgreSQL.

-- What durable functions have done, in order. Rows are only ever added, and go with their run.
CREATE TABLE onceward_run_journal (
    namespace TEXT NOT NULL,
    run BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    token INTEGER NOT NULL,
    position TEXT NOT NULL,
    op TEXT NOT NULL,
    phase TEXT NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (namespace, run, seq)
) STRICT, WITHOUT ROWID;

-- What has arrived for a run and does not stand in its journal yet.
CREATE TABLE onceward_run_inbox (
    namespace TEXT NOT NULL,
    run BLOB NOT NULL,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    noted INTEGER NOT NULL DEFAULT 0,
    word TEXT NOT NULL,
    name TEXT NOT NULL,
    data BLOB,
    PRIMARY KEY (namespace, run, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX onceward_run_inbox_new ON onceward_run_inbox (namespace, run) WHERE noted = 0;
