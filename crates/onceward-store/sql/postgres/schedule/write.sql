-- schedule.write: a schedule, if it has the version that was seen (0: none), and its jobs with it.
--
-- $1 namespace  $2 name  $3 version seen  $4 next_at  $5 definition  $6 payload
-- $7 id[]  $8 kind[]  $9 queue[]  $10 priority[]  $11 payload[]  $12 content_type[]  $13 spec[]  $14 route[]
-- $15 ordering_key[]  $16 due[], as job.enqueue; of one job each, sorted by id
-- Rows: one if it was written. A job whose id is there, waiting or over, stays as it is.
-- Indexes: schedule_pkey (namespace, name), job_pkey, job_done_of_id.

{bound}WITH made_row AS (
    INSERT INTO {schema}.schedule (namespace, name, version, next_at, definition, payload)
    SELECT $1::text, $2::text, 1, $4::timestamptz, $5::text, $6::bytea
    WHERE $3::bigint = 0
    ON CONFLICT DO NOTHING
    RETURNING version
), changed AS (
    UPDATE {schema}.schedule s
    SET version = s.version + 1, next_at = $4::timestamptz, definition = $5::text, payload = $6::bytea
    WHERE s.namespace = $1::text AND s.name = $2::text AND s.version = $3::bigint AND $3::bigint > 0
    RETURNING s.version
), written AS MATERIALIZED (
    SELECT made_row.version FROM made_row
    UNION ALL
    SELECT changed.version FROM changed
), made AS (
    INSERT INTO {schema}.job (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                              payload, content_type, spec, route, ordering_key)
    SELECT $1::text, a.id, a.kind, a.queue, a.priority, CASE WHEN a.run_at > a.now THEN 'scheduled' ELSE 'ready' END,
           0, 0, 0, a.now, a.run_at, a.payload, a.content_type, a.spec, a.route, a.ordering_key
    FROM (
        SELECT a.*, CASE WHEN a.due IS NULL THEN t.now
                         WHEN a.due < 0 THEN t.now - a.due * interval '1 microsecond'
                         ELSE timestamptz 'epoch' + a.due * interval '1 microsecond' END AS run_at, t.now
        FROM {bounded}written w, (SELECT {clock} AS now OFFSET 0) t,
             unnest($7::uuid[], $8::text[], $9::text[], $10::smallint[], $11::bytea[], $12::text[], $13::text[], $14::text[],
                    $15::text[], $16::bigint[])
                 AS a (id, kind, queue, priority, payload, content_type, spec, route, ordering_key, due)
    ) a
    WHERE NOT EXISTS (SELECT FROM {schema}.job_done d WHERE d.namespace = $1::text AND d.id = a.id)
    ON CONFLICT DO NOTHING
    RETURNING namespace, id, kind, queue, priority, state, run_at, coalesce(route, '') AS route, ordering_key,
              ctid AS place
), {ordered_lanes}
SELECT w.version FROM written w
