-- How many jobs of one ordering key run at the same time: as on PostgreSQL. See docs/decisions/011-keys.md.

-- What a queue is set to; NULL: one.
ALTER TABLE onceward_job_queue ADD COLUMN key_concurrency INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN keys_at INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN keys_by TEXT;

-- The jobs of an ordering key that were let in and have not ended yet: as many as its queues allow.
CREATE TABLE onceward_job_seated (
    namespace TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (namespace, ordering_key, id)
) STRICT, WITHOUT ROWID;
INSERT INTO onceward_job_seated SELECT namespace, ordering_key, id FROM onceward_job_first;
DROP TABLE onceward_job_first;
-- Under its old name: the version before reads it.
ALTER TABLE onceward_job_seated RENAME TO onceward_job_first;
