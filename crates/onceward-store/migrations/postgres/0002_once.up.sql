-- 0002: once keys, their claims and their recorded outcomes.

CREATE TABLE {schema}.once (
    namespace       text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    state           text        NOT NULL
        CHECK (state IN ('running', 'done', 'failed', 'uncertain', 'released')),
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
    PRIMARY KEY (namespace, key)
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- What is running or uncertain: the few rows an operator looks for.
CREATE INDEX once_unfinished ON {schema}.once (namespace, key) WHERE finished_at IS NULL;
-- What may be forgotten.
CREATE INDEX once_by_retention ON {schema}.once USING brin (retain_until) WITH (autosummarize = on);
