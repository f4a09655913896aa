-- run.tell in the caller's own transaction: it arrives if that commits. And run.write, what a step of a run has done: it
-- commits with the effects of the step, or not at all.
--
-- tell   $1 namespace  $2 run (as text)  $3 id (as text)  $4 word  $5 name  $6 data
-- One row: the queue, and the number of the transaction, if the run will hear of it; no row where there is no such run, or
-- it has ended (looking into the partitions of what is over would lock all of them for the caller).
-- Indexes: job_pkey, run_inbox_pkey.
--
-- write  $1 namespace  $2 run (as text)  $3 id (as text)  $4 position  $5 value  $6 token of the attempt  $7 session (as
--        text)
-- One row: how many were written, 1 or 0. Nothing is written where the run is not that attempt's any more.
-- The session is locked for key share, and the job for share: until the caller's transaction has ended nobody rescues the
-- run, and it is not given back. So whoever takes it up next sees what was written. Waits at most 40 ms for a lock, then
-- fails with 55P03; the caller's own lock_timeout is put back by the same statement (and by a rollback, should it fail).
-- Indexes: session_pkey, job_pkey, run_inbox_pkey.

-- step: tell
WITH told AS (
    INSERT INTO {schema}.run_inbox (namespace, run, id, at, word, name, data)
    SELECT j.namespace, j.id, $3::text::uuid, {clock}, $4::text, $5::text, $6::bytea
    FROM {schema}.job j
    WHERE j.namespace = $1::text AND j.id = $2::text::uuid AND j.state IN ('scheduled', 'ready', 'retrying')
    ON CONFLICT (namespace, run, id) DO NOTHING
    RETURNING namespace, run
)
SELECT j.queue, pg_current_xact_id()::text
FROM told t
JOIN {schema}.job j ON j.namespace = t.namespace AND j.id = t.run

-- step: write
WITH setting AS MATERIALIZED (
    SELECT b.lock_timeout, set_config('lock_timeout', '40ms', true)
    FROM (SELECT current_setting('lock_timeout') AS lock_timeout OFFSET 0) b
), alive AS MATERIALIZED (
    SELECT s.id
    FROM setting
    JOIN {schema}.session s ON s.id = $7::text::uuid
    FOR KEY SHARE OF s
), held AS MATERIALIZED (
    SELECT j.namespace, j.id
    FROM (SELECT count(*) AS sessions FROM alive) a
    JOIN {schema}.job j ON a.sessions = 1 AND j.namespace = $1::text AND j.id = $2::text::uuid
    WHERE j.token < $6::bigint AND j.state NOT IN ('dead', 'uncertain')
    FOR SHARE OF j
), written AS (
    -- The run need not be woken for it: either it is running, or it is taken up again and reads all there is.
    INSERT INTO {schema}.run_inbox (namespace, run, id, at, noted, word, name, data)
    SELECT h.namespace, h.id, $3::text::uuid, {clock}, true, 'step', $4::text, $5::bytea
    FROM held h
    ON CONFLICT (namespace, run, id) DO NOTHING
    RETURNING id
), outcome AS (
    -- One row whatever there is; complete before the setting is put back.
    SELECT count(*) AS rows FROM written
)
SELECT o.rows, set_config('lock_timeout', setting.lock_timeout, true) AS lock_timeout
FROM setting
CROSS JOIN outcome o
