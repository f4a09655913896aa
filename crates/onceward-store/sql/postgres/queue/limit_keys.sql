-- queue.limit_keys: sets how many jobs of one ordering key a queue lets through at the same time.
--
-- set: $1 namespace  $2 queue  $3 how many  $4 actor
--   It takes the turn, so that nobody lets a job through who goes by the setting before.
-- stir: $1 namespace. Every key under which somebody waits is looked at again. By itself: it has to see what waits when
--   the setting holds.
-- Indexes: job_queue_pkey (namespace, queue); job_held_of_key, from one key to the next.

-- step: set
WITH turn AS (
    UPDATE {schema}.job_turn SET taken_at = greatest({clock}, taken_at + interval '1 microsecond') RETURNING true
)
INSERT INTO {schema}.job_queue AS q (namespace, queue, key_concurrency, keys_at, keys_by)
SELECT $1::text, $2::text, $3::integer, {clock}, $4::text
FROM (SELECT count(*) FROM turn) t
ON CONFLICT (namespace, queue)
DO UPDATE SET key_concurrency = excluded.key_concurrency, keys_at = excluded.keys_at, keys_by = excluded.keys_by

-- step: stir
WITH RECURSIVE line (ordering_key) AS (
    (SELECT w.ordering_key
     FROM {schema}.job_held w
     WHERE w.namespace = $1::text
     ORDER BY w.namespace, w.ordering_key
     LIMIT 1)
    UNION ALL
    SELECT n.ordering_key
    FROM line l
    CROSS JOIN LATERAL (
        SELECT w.ordering_key
        FROM {schema}.job_held w
        WHERE w.namespace = $1::text AND w.ordering_key > l.ordering_key
        ORDER BY w.namespace, w.ordering_key
        LIMIT 1
    ) n
)
INSERT INTO {schema}.job_arrived (namespace, ordering_key)
SELECT $1::text, l.ordering_key
FROM line l
