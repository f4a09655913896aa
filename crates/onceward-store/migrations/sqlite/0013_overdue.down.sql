DROP INDEX onceward_job_overdue;
