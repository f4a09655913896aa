-- The migrations this file has seen.
CREATE TABLE onceward_migration (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

-- One row: the clocks of the process that opened the file last, and what is known of the wall clock.
-- All times are microseconds; `boottime` counts from the start of the host that `boot_id` names.
CREATE TABLE onceward_meta (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    boot_id TEXT NOT NULL,
    boottime INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    -- wall clock minus boottime, as far as it is trusted
    wall_offset INTEGER NOT NULL,
    -- another offset that was seen, and the boottime since when: it is believed once it has lasted
    doubted_offset INTEGER,
    doubted_since INTEGER
) STRICT;

-- One row per place of a lease, kept after its end because of its token.
-- Whether it has expired is decided by (boot_id, expires_boot) alone; expires_at is the wall clock's view of it.
CREATE TABLE onceward_lease (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    slot INTEGER NOT NULL,
    token INTEGER NOT NULL,
    owner TEXT NOT NULL,
    session BLOB NOT NULL,
    granted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    expires_boot INTEGER NOT NULL,
    hard_expires_boot INTEGER,
    boot_id TEXT NOT NULL,
    ttl_us INTEGER NOT NULL,
    lock_delay_us INTEGER NOT NULL,
    heartbeats INTEGER NOT NULL,
    released_at INTEGER,
    metadata TEXT,
    PRIMARY KEY (namespace, key, slot)
) STRICT, WITHOUT ROWID;

-- Those who wait for a lease.
CREATE TABLE onceward_lease_waiter (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    session BLOB NOT NULL,
    number INTEGER NOT NULL,
    fair INTEGER NOT NULL,
    expires_boot INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    PRIMARY KEY (namespace, key, session)
) STRICT, WITHOUT ROWID;

-- One row per ended grant. Ids order the rows of a key and mean nothing else, so they may be given out again once
-- all rows are gone: AUTOINCREMENT would cost every row a write more.
CREATE TABLE onceward_history (
    id INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    event TEXT NOT NULL,
    token INTEGER NOT NULL,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT,
    claimed_at INTEGER,
    claimed_by TEXT
) STRICT;

-- The rows of an index end with the id: it serves (subject, namespace, key) in the order of id.
CREATE INDEX onceward_history_key ON onceward_history (subject, namespace, key);
