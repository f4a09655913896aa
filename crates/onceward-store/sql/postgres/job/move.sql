-- job.move: writes what somebody wants of a job from outside, as core has decided on the row as it was seen.
--
-- moved
--   $1 namespace  $2 id  $3 its token  $4 the new one  $5 state  $6 error  $7 finished_at  $8 run_at  $9 past  $10 spec
--   $11 result  $12 result_type  $13 result_size  $14 retain_us  $15 alone  $16 parent  $17 paused_at  $18 paused_by
--   $19 pause_reason  $20 whether it was paused  $21 the dedupe key that it takes again (NULL: none)  $22 until_started
--   Rows: queue, whether it is ready, whether jobs of its ordering key may have become free; none if it has moved on,
--   which one that waited has where its row in a lane is gone: it was claimed; none if somebody has taken the key. One
--   that is paused waits in no lane.
-- holder: the job that has a dedupe key. $1 namespace  $2 key
-- mark: writes down that a run is paused, or not any more, that somebody runs. He is told at the next renewal.
--   $1 namespace  $2 id  $3 its token  $4 paused_at  $5 paused_by  $6 pause_reason
--   Rows: one if it still runs.
-- note: writes down that a job that runs was called off. Its worker is told at the next renewal of its session.
--   $1 namespace  $2 id  $3 its token  $4 actor  $5 reason  $6 the words it is cancelled with
--   Rows: one if it still runs.
-- Indexes: job_pkey; job_ready_lane, job_later_due and job_held_of_key for one row; job_key_pkey, job_gate_pkey.

-- step: moved
WITH seen AS MATERIALIZED (
    SELECT j.ctid AS place, j.*, {clock} AS now
    FROM {schema}.job j
    WHERE j.namespace = $1::text AND j.id = $2::uuid AND j.token = $3::bigint
    FOR UPDATE OF j
), from_ready AS (
    DELETE FROM {schema}.job_ready r
    USING seen h
    WHERE r.lane = hashtextextended(coalesce(h.route, ''), hashtextextended(h.kind, hashtextextended(h.queue,
                       hashtextextended(h.namespace, 0))))
      AND r.alone IN (false, true) AND r.rank = - h.priority AND r.run_at = h.run_at AND r.id = h.id
      AND r.namespace = h.namespace
    RETURNING r.id
), from_later AS (
    DELETE FROM {schema}.job_later l
    USING seen h
    WHERE l.run_at = h.run_at AND l.id = h.id AND l.namespace = h.namespace
    RETURNING l.id
), from_held AS (
    DELETE FROM {schema}.job_held w
    USING seen h
    WHERE w.namespace = h.namespace AND w.ordering_key = h.ordering_key AND w.rank = - h.priority
      AND w.run_at = h.run_at AND w.id = h.id
    RETURNING w.id
), again AS (
    INSERT INTO {schema}.job_key AS k (namespace, purpose, key, id, until_started)
    SELECT h.namespace, 'dedupe', $21::text, h.id, $22::boolean
    FROM seen h
    WHERE $21::text IS NOT NULL
    ON CONFLICT (namespace, purpose, key) DO UPDATE
    SET id = excluded.id, expires_at = NULL, until_started = excluded.until_started
    WHERE k.expires_at <= {clock}
    RETURNING k.id
), held AS MATERIALIZED (
    SELECT h.*, 'dedupe'::text AS purpose
    FROM seen h
    WHERE (h.state IN ('dead', 'uncertain') OR EXISTS (SELECT FROM from_ready) OR EXISTS (SELECT FROM from_later)
           OR EXISTS (SELECT FROM from_held) OR ($20::boolean AND h.paused_at IS NOT NULL))
      AND ($21::text IS NULL OR EXISTS (SELECT FROM again))
), over AS (
    DELETE FROM {schema}.job j
    USING held h
    WHERE j.ctid = h.place AND $5::text IN ('succeeded', 'cancelled')
), kept AS (
    INSERT INTO {schema}.job_done (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                                   payload, content_type, spec, route, ordering_key, begun, attempted_at, finished_at,
                                   worker, error, result, result_type, result_size, past, forget_at)
    SELECT h.namespace, h.id, h.kind, h.queue, h.priority, $5::text, $4::bigint, h.attempt, h.lost, h.enqueued_at,
           h.run_at, h.payload, h.content_type, h.spec, h.route, h.ordering_key, h.begun, h.attempted_at,
           $7::timestamptz, h.worker, $6::text, $11::bytea, $12::text, $13::bigint, $9::text,
           h.now + $14::bigint * interval '1 microsecond'
    FROM held h
    WHERE $5::text IN ('succeeded', 'cancelled') AND $14::bigint > 0
), stays AS (
    UPDATE {schema}.job j
    SET state = $5::text, token = $4::bigint, run_at = $8::timestamptz, finished_at = $7::timestamptz, error = $6::text,
        past = $9::text, spec = $10::text, called_off = NULL,
        -- How a run has failed; of others it is nothing, and what they have said on their way stays.
        result = coalesce($11::bytea, j.result), result_type = coalesce($12::text, j.result_type),
        result_size = coalesce($13::bigint, j.result_size), paused_at = $17::timestamptz, paused_by = $18::text,
        pause_reason = $19::text
    FROM held h
    WHERE j.ctid = h.place AND $5::text NOT IN ('succeeded', 'cancelled')
    RETURNING j.namespace, j.queue, j.kind, coalesce(j.route, '') AS route, j.priority, j.run_at, j.id, j.token,
              j.ctid AS place, j.state, j.ordering_key, j.paused_at IS NULL AS waits,
              j.state IN ('scheduled', 'retrying') AND j.run_at > h.now AS is_later,
              j.ordering_key IS NULL OR EXISTS (
                  SELECT FROM {schema}.job_gate g
                  WHERE g.namespace = j.namespace AND g.ordering_key = j.ordering_key AND g.id = j.id) AS free
), ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(s.route, hashtextextended(s.kind, hashtextextended(s.queue,
               hashtextextended(s.namespace, 0)))),
           s.namespace, s.queue, s.kind, s.route, $15::boolean, - s.priority, s.run_at, s.id, s.token, s.place
    FROM stays s
    WHERE s.waits AND s.state IN ('scheduled', 'ready', 'retrying') AND NOT s.is_later AND s.free
    RETURNING id
), later AS (
    INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT s.namespace, s.queue, s.kind, s.route, - s.priority, s.run_at, s.id, s.token, s.place, s.ordering_key
    FROM stays s
    WHERE s.waits AND s.is_later
), line AS (
    INSERT INTO {schema}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT s.namespace, s.queue, s.kind, s.route, - s.priority, s.run_at, s.id, s.token, s.place, s.ordering_key
    FROM stays s
    WHERE s.waits AND s.state IN ('scheduled', 'ready', 'retrying') AND NOT s.is_later AND NOT s.free
), freed AS (
    DELETE FROM {schema}.job_key k
    USING held h
    WHERE h.dedupe_key IS NOT NULL AND $5::text IN ('succeeded', 'cancelled', 'dead', 'uncertain')
      AND k.namespace = h.namespace AND k.purpose = h.purpose AND k.key = h.dedupe_key AND k.id = h.id
      AND k.expires_at IS NULL
), told AS (
    INSERT INTO {schema}.run_inbox (namespace, run, id, at, word, name, data)
    SELECT h.namespace, $16::uuid, h.id, h.now, $5::text, coalesce($6::text, ''), $11::bytea
    FROM held h
    WHERE $16::uuid IS NOT NULL AND $5::text IN ('succeeded', 'cancelled', 'dead', 'uncertain')
    ON CONFLICT (namespace, run, id) DO NOTHING
), let_go AS (
    DELETE FROM {schema}.job_gate g
    USING held h
    WHERE h.ordering_key IS NOT NULL AND $5::text IN ('succeeded', 'cancelled', 'dead', 'uncertain')
      AND g.namespace = h.namespace AND g.ordering_key = h.ordering_key AND g.id = h.id
), arrived AS (
    INSERT INTO {schema}.job_arrived (namespace, ordering_key)
    SELECT h.namespace, h.ordering_key
    FROM held h
    WHERE h.ordering_key IS NOT NULL
), ended AS (
    SELECT h.namespace, h.id, $4::bigint AS token, h.now, $5::text AS state, h.kind, h.queue, h.spec, $6::text AS error,
           h.payload
    FROM held h
), {overheard}
SELECT h.queue, EXISTS (SELECT FROM ready) AS ready, h.ordering_key IS NOT NULL AS frees
FROM held h

-- step: note
WITH noted AS (
    UPDATE {schema}.job j
    SET called_off = coalesce(j.called_off, $6::text)
    WHERE j.namespace = $1::text AND j.id = $2::uuid AND j.token = $3::bigint
      AND j.state NOT IN ('dead', 'uncertain')
    RETURNING j.namespace, j.id
)
INSERT INTO {schema}.job_cancel AS c (namespace, id, asked_at, actor, reason)
SELECT n.namespace, n.id, {clock}, $4::text, $5::text
FROM noted n
ON CONFLICT (namespace, id) DO UPDATE SET asked_at = c.asked_at
RETURNING c.id

-- step: holder
SELECT k.id
FROM {schema}.job_key k
WHERE k.namespace = $1::text AND k.purpose = 'dedupe' AND k.key = $2::text
  AND (k.expires_at IS NULL OR k.expires_at > {clock})

-- step: mark
UPDATE {schema}.job j
SET paused_at = $4::timestamptz, paused_by = $5::text, pause_reason = $6::text
WHERE j.namespace = $1::text AND j.id = $2::uuid AND j.token = $3::bigint AND j.state NOT IN ('dead', 'uncertain')
RETURNING j.id
