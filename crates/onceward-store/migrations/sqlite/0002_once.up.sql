-- One row per once key. Whether a running claim has expired is decided by (boot_id, expires_boot) alone.
-- With rowids on purpose: rows lie in the order of their claims, so a claim and its outcome touch few pages although
-- keys are random; a tree of such wide rows by key writes twice as much and is three times slower once it is large.
CREATE TABLE onceward_once (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    token INTEGER NOT NULL,
    owner TEXT NOT NULL,
    session BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    fingerprint BLOB,
    claimed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    expires_boot INTEGER NOT NULL,
    hard_expires_boot INTEGER,
    boot_id TEXT NOT NULL,
    ttl_us INTEGER NOT NULL,
    retain_us INTEGER NOT NULL,
    uncertain_at INTEGER,
    finished_at INTEGER,
    retain_until INTEGER,
    late INTEGER NOT NULL,
    reason TEXT,
    body_type TEXT,
    body_size INTEGER,
    body BLOB,
    -- the outcome's row of history is written when the row is used again or forgotten: until then it would only
    -- repeat what stands here
    untold INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
) STRICT;

-- What is running or uncertain is found without reading what is finished.
CREATE INDEX onceward_once_open ON onceward_once (namespace, key) WHERE finished_at IS NULL;

-- What may be forgotten, oldest first.
CREATE INDEX onceward_once_retained ON onceward_once (retain_until) WHERE retain_until IS NOT NULL;
