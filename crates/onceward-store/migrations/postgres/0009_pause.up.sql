-- 0009: runs that are paused. See docs/decisions/018-runs-from-outside.md.

-- A run that is paused waits in no lane. While somebody still runs it, he is told at the next renewal of his session. It
-- stands in the row, and is read under its lock: what ends an attempt then puts the run nowhere.
ALTER TABLE {schema}.job
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_by text,
    ADD COLUMN pause_reason text;
-- In the order of a time, so that whether there is any is one look: no statistics make a planner read the table for it.
CREATE INDEX job_paused ON {schema}.job (paused_at, namespace, id) WHERE paused_at IS NOT NULL;
