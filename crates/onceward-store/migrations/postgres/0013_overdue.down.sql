DROP INDEX {schema}.job_overdue;
