DROP INDEX onceward_job_paused;
ALTER TABLE onceward_job DROP COLUMN paused_at;
ALTER TABLE onceward_job DROP COLUMN paused_by;
ALTER TABLE onceward_job DROP COLUMN pause_reason;
