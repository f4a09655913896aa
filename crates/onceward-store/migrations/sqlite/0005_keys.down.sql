CREATE TABLE onceward_job_one (
    namespace TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (namespace, ordering_key)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO onceward_job_one SELECT namespace, ordering_key, id FROM onceward_job_first;
DROP TABLE onceward_job_first;
ALTER TABLE onceward_job_one RENAME TO onceward_job_first;
ALTER TABLE onceward_job_queue DROP COLUMN keys_by;
ALTER TABLE onceward_job_queue DROP COLUMN keys_at;
ALTER TABLE onceward_job_queue DROP COLUMN key_concurrency;
