-- 0007: services, the terms of their cycles, and schedules. See docs/decisions/013-services.md.

-- What services are set to, as one text that no statement looks into. Written under a version.
CREATE TABLE {schema}.service (
    namespace text   COLLATE "C" NOT NULL,
    name      text   COLLATE "C" NOT NULL,
    version   bigint NOT NULL,
    setting   text   NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- One row per cycle of a service: the term that was run, or why none was. It is what keeps a cycle from being run twice;
-- what keeps terms apart is the lease of the service.
CREATE TABLE {schema}.term (
    cycle      bigint      NOT NULL,
    -- For how many cycles it stands; more than one where they were missed long ago.
    cycles     bigint      NOT NULL,
    -- The fencing token; 0 where nobody began it.
    token      bigint      NOT NULL,
    due_at     timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    session    uuid,
    namespace  text        COLLATE "C" NOT NULL,
    service    text        COLLATE "C" NOT NULL,
    -- Empty, or which of several rows of a cycle it is.
    part       text        COLLATE "C" NOT NULL,
    -- running, done, failed, handed_over, lost or missed
    outcome    text        NOT NULL,
    owner      text,
    reason     text,
    PRIMARY KEY (namespace, service, cycle, part)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- What is to be enqueued when: as services, one text and a version. The time stands beside it, to be found by.
CREATE TABLE {schema}.schedule (
    version    bigint      NOT NULL,
    -- The next tick; NULL where none comes.
    next_at    timestamptz,
    namespace  text        COLLATE "C" NOT NULL,
    name       text        COLLATE "C" NOT NULL,
    definition text        NOT NULL,
    payload    bytea       NOT NULL,
    PRIMARY KEY (namespace, name)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
CREATE INDEX schedule_due ON {schema}.schedule (namespace, next_at) WHERE next_at IS NOT NULL;
