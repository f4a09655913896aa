-- What a queue is tuned by: as on PostgreSQL. See docs/decisions/022-ageing.md.

-- NULL where nothing is said: how much waiting counts as one priority, how long jobs are kept that say nothing, and how
-- long dead ones are kept.
ALTER TABLE onceward_job_queue ADD COLUMN ageing_us INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN retain_us INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN retain_dead_us INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN tuned_at INTEGER;
ALTER TABLE onceward_job_queue ADD COLUMN tuned_by TEXT;
