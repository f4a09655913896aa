ALTER TABLE onceward_job_queue DROP COLUMN tuned_by;
ALTER TABLE onceward_job_queue DROP COLUMN tuned_at;
ALTER TABLE onceward_job_queue DROP COLUMN retain_dead_us;
ALTER TABLE onceward_job_queue DROP COLUMN retain_us;
ALTER TABLE onceward_job_queue DROP COLUMN ageing_us;
