-- 0001: the schema itself, leases and those who wait for them, history, fence().
-- Keyed tables have no foreign keys and no triggers: a verb costs what it writes, and locks nothing but its own rows.

-- Not CREATE SCHEMA IF NOT EXISTS: that asks for the right to create one even where somebody has made it for us.
DO $$
BEGIN
    IF to_regnamespace('{schema}') IS NULL THEN
        CREATE SCHEMA {schema};
    END IF;
END
$$;

CREATE TABLE {schema}.migration (
    version    integer     NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per place of a key. Names sort byte by byte whatever the database's collation.
CREATE TABLE {schema}.lease (
    namespace       text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    slot            integer     NOT NULL,
    token           bigint      NOT NULL,
    owner           text        NOT NULL,
    session         uuid        NOT NULL,
    granted_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    hard_expires_at timestamptz,
    ttl_ms          bigint      NOT NULL,
    lock_delay_ms   bigint      NOT NULL,
    heartbeats      bigint      NOT NULL,
    released_at     timestamptz,
    metadata        text,
    PRIMARY KEY (namespace, key, slot)
) WITH (
    -- Nothing that is done to a row changes an indexed column; with room on the page they are HOT and the indexes never hear of them. Half a
    -- page is room for a new version of every row of it, as one batch writes them.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0.05
);

-- No index on the token: whoever takes a lease over locks the row FOR UPDATE first, which a guard's FOR KEY SHARE holds
-- off and renewals, which lock FOR NO KEY UPDATE, do not. So neither takeovers nor releases touch an index.

-- Who waits for a key. Almost always empty.
CREATE TABLE {schema}.lease_waiter (
    namespace  text        COLLATE "C" NOT NULL,
    key        text        COLLATE "C" NOT NULL,
    session    uuid        NOT NULL,
    ticket     bigint      NOT NULL,
    fair       boolean     NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, key, session)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500
);

-- One row per ended grant, and one per event that ends none. Only ever appended to and pruned.
CREATE TABLE {schema}.history (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL,
    token      bigint      NOT NULL,
    claimed_at timestamptz,
    subject    text        COLLATE "C" NOT NULL,
    namespace  text        COLLATE "C" NOT NULL,
    key        text        COLLATE "C" NOT NULL,
    event      text        NOT NULL,
    actor      text        NOT NULL,
    claimed_by text,
    reason     text
) WITH (
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.1
);

CREATE INDEX history_of_key ON {schema}.history (subject, namespace, key, id);
CREATE INDEX history_by_time ON {schema}.history USING brin (at) WITH (autosummarize = on);

-- Refuses the transaction of a holder who has been replaced or whose time is up, from any language:
--     SELECT onceward.fence('default', 'order-17', 1764000000000000);
-- It takes the guard's lock, so that nobody takes the key over until the transaction ends.
CREATE FUNCTION {schema}.fence(namespace text, key text, token bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
DECLARE
    is_current boolean;
BEGIN
    WITH guarded AS MATERIALIZED (
        SELECT l.expires_at, l.released_at
        FROM {schema}.lease l
        WHERE l.namespace = fence.namespace AND l.key = fence.key AND l.token = fence.token
        FOR KEY SHARE
    )
    SELECT true INTO is_current
    FROM guarded g
    WHERE g.released_at IS NULL AND g.expires_at > clock_timestamp();
    IF is_current IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'OW203',
            MESSAGE = format('token %s is not the current one of lease "%s"', fence.token, fence.key),
            DETAIL = 'The lease was taken over, was given back, or has run out.',
            HINT = 'Stop this piece of work and roll back: somebody else may hold the key. See onceward explain OW0203.';
    END IF;
END
$$;

REVOKE ALL ON FUNCTION {schema}.fence(text, text, bigint) FROM PUBLIC;
