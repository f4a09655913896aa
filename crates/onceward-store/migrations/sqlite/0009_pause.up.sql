-- Runs that are paused, and wait in no lane: as on PostgreSQL.
ALTER TABLE onceward_job ADD COLUMN paused_at INTEGER;
ALTER TABLE onceward_job ADD COLUMN paused_by TEXT;
ALTER TABLE onceward_job ADD COLUMN pause_reason TEXT;
CREATE INDEX onceward_job_paused ON onceward_job (namespace, id) WHERE paused_at IS NOT NULL;
