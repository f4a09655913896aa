-- queue.limit: sets what a queue is limited to, or that it is not. Permits given before are void: they are of another
-- setting.
--
-- $1 namespace  $2 queue  $3 concurrency  $4 rate_count  $5 rate_us  $6 burst  $7 actor  $8 whether it is limited
-- The time is taken once the row is locked that all permits go through.
-- Indexes: job_limit_pkey, job_queue_pkey (namespace, queue).

WITH changed AS (
    INSERT INTO {schema}.job_limit AS l (namespace, queue, version, tokens, filled_at, lent, unsettled)
    SELECT $1::text, $2::text, 1, 0, {clock}, 0, true
    ON CONFLICT (namespace, queue)
    DO UPDATE SET version = l.version + 1, tokens = 0, filled_at = {clock}, lent = 0, unsettled = true
    RETURNING l.filled_at AS now
), gone AS (
    DELETE FROM {schema}.job_permit p
    USING changed c
    WHERE p.namespace = $1::text AND p.queue = $2::text AND NOT $8::boolean
)
INSERT INTO {schema}.job_queue AS q (namespace, queue, concurrency, rate_count, rate_us, burst, setting, limits_at,
                                     limits_by)
SELECT $1::text, $2::text, $3::integer, $4::integer, $5::bigint, $6::integer, 1,
       CASE WHEN $8::boolean THEN c.now END, CASE WHEN $8::boolean THEN $7::text END
FROM changed c
ON CONFLICT (namespace, queue)
DO UPDATE SET concurrency = excluded.concurrency, rate_count = excluded.rate_count, rate_us = excluded.rate_us,
              burst = excluded.burst, setting = q.setting + 1, limits_at = excluded.limits_at,
              limits_by = excluded.limits_by
