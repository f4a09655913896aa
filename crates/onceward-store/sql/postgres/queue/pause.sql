-- queue.pause: pauses or resumes a queue.
--
-- $1 namespace  $2 queue  $3 paused  $4 actor  $5 reason
-- Index: job_queue_pkey (namespace, queue).

INSERT INTO {schema}.job_queue AS q (namespace, queue, paused_at, paused_by, pause_reason)
SELECT $1::text, $2::text, CASE WHEN $3::boolean THEN {clock} END, CASE WHEN $3::boolean THEN $4::text END,
       CASE WHEN $3::boolean THEN $5::text END
ON CONFLICT (namespace, queue)
DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by, pause_reason = excluded.pause_reason
