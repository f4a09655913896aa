-- 0010: triggers, what they listen to, and what they have heard. See docs/decisions/019-triggers.md.

-- What triggers are set to, and what waits in them for more: as schedules, one text and a version.
CREATE TABLE {schema}.trigger (
    version    bigint NOT NULL,
    namespace  text   COLLATE "C" NOT NULL,
    name       text   COLLATE "C" NOT NULL,
    definition text   NOT NULL,
    payload    bytea  NOT NULL,
    PRIMARY KEY (namespace, name)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- What they listen to, for the statements that end jobs: each of them reads all of it, so it has no index. Nearly always
-- there are a few rows, or none.
CREATE TABLE {schema}.trigger_watch (
    namespace text COLLATE "C" NOT NULL,
    trigger   text COLLATE "C" NOT NULL,
    state     text NOT NULL,
    -- NULL: any.
    kind      text COLLATE "C",
    queue     text COLLATE "C",
    -- Whether the payload is wanted.
    body      boolean NOT NULL
);

-- What has ended and is to be acted on. Written with the end, and gone with what follows from it.
CREATE TABLE {schema}.trigger_heard (
    number    bigint      GENERATED ALWAYS AS IDENTITY,
    -- The token of the end: a job may end more than once.
    token     bigint      NOT NULL,
    at        timestamptz NOT NULL,
    job       uuid        NOT NULL,
    namespace text        COLLATE "C" NOT NULL,
    trigger   text        COLLATE "C" NOT NULL,
    state     text        NOT NULL,
    kind      text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    spec      text,
    error     text,
    body      bytea,
    PRIMARY KEY (namespace, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- Terms that run, however far back their cycle lies: one that has lost its lease is found by it.
CREATE INDEX term_running ON {schema}.term (namespace, service) WHERE outcome = 'running';
