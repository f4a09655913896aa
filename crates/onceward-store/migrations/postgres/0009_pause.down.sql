DROP INDEX {schema}.job_paused;
ALTER TABLE {schema}.job
    DROP COLUMN paused_at,
    DROP COLUMN paused_by,
    DROP COLUMN pause_reason;
