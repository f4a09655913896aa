-- 0002: once keys, their claims and their recorded outcomes.

CREATE TABLE {schema}.once (
    namespace       text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    -- running, done, failed, uncertain or released. A CHECK would be read and planned anew by every statement.
    state           text        NOT NULL,
    token           bigint      NOT NULL,
    owner           text        NOT NULL,
    session         uuid        NOT NULL,
    attempts        bigint      NOT NULL,
    fingerprint     bytea,
    claimed_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    hard_expires_at timestamptz,
    ttl_ms          bigint      NOT NULL,
    retain_ms       bigint      NOT NULL,
    uncertain_at    timestamptz,
    finished_at     timestamptz,
    retain_until    timestamptz,
    late            boolean     NOT NULL,
    -- There is a body where there is a content type; one that was too large to keep has a size and no bytes.
    body            bytea,
    content_type    text,
    body_size       bigint,
    reason          text,
    -- Whether the history does not tell of the outcome yet: the row itself does, until it is overwritten or pruned.
    untold          boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (namespace, key)
) WITH (
    -- An outcome changes no indexed column. With room on the page for the new version of each row of a batch it is HOT,
    -- and the indexes never hear of it.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- What is or was in doubt: the few rows an operator looks for. An outcome on time touches none of these columns.
CREATE INDEX once_doubted ON {schema}.once (namespace, key) WHERE uncertain_at IS NOT NULL;
-- What was claimed lately, for what is still running: an index of running claims would be written twice per call.
CREATE INDEX once_claimed ON {schema}.once USING brin (claimed_at) WITH (autosummarize = on);

-- How far upkeep has come: no claim from before this time is running, except those in once_doubted.
CREATE TABLE {schema}.upkeep (
    once_swept_until timestamptz NOT NULL
);
INSERT INTO {schema}.upkeep (once_swept_until) VALUES (timestamptz 'epoch');
