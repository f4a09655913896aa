-- 0006: the journals of runs, and what arrives for them. See docs/decisions/012-runs.md.

-- What durable functions have done, in order. Rows are only ever added, and go with their run.
CREATE TABLE {schema}.run_journal (
    at        timestamptz NOT NULL,
    token     bigint      NOT NULL,
    run       uuid        NOT NULL,
    seq       integer     NOT NULL,
    namespace text        COLLATE "C" NOT NULL,
    position  text        COLLATE "C" NOT NULL,
    op        text        NOT NULL,
    phase     text        NOT NULL,
    name      text        NOT NULL,
    data      bytea       NOT NULL,
    PRIMARY KEY (namespace, run, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- What has arrived for a run and does not stand in its journal yet: a child has ended, a signal, a cancellation.
CREATE TABLE {schema}.run_inbox (
    at        timestamptz NOT NULL,
    run       uuid        NOT NULL,
    id        uuid        NOT NULL,
    -- The run knows of it, and need not be woken for it again.
    noted     boolean     NOT NULL DEFAULT false,
    namespace text        COLLATE "C" NOT NULL,
    -- signal, cancel, or the state in which a child has ended.
    word      text        NOT NULL,
    -- What a signal is called, or what went wrong with a child.
    name      text        NOT NULL,
    data      bytea,
    PRIMARY KEY (namespace, run, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX run_inbox_new ON {schema}.run_inbox (namespace, run) WHERE NOT noted;
