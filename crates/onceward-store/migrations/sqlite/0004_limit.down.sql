DROP TABLE onceward_job_permit;
DROP TABLE onceward_job_limit;
ALTER TABLE onceward_job_queue DROP COLUMN limits_by;
ALTER TABLE onceward_job_queue DROP COLUMN limits_at;
ALTER TABLE onceward_job_queue DROP COLUMN setting;
ALTER TABLE onceward_job_queue DROP COLUMN burst;
ALTER TABLE onceward_job_queue DROP COLUMN rate_us;
ALTER TABLE onceward_job_queue DROP COLUMN rate_count;
ALTER TABLE onceward_job_queue DROP COLUMN concurrency;
