-- trigger.write: a trigger, if it has the version that was seen (0: none), with what it listens to, without what has been acted
-- on, and with the jobs that follow from that.
--
-- $1 namespace  $2 name  $3 version seen  $4 definition  $5 payload  $6 whether what it listens to is written
-- $7 state[]  $8 kind[]  $9 queue[]  $10 body[]; of one thing each that it listens to  $11 number of what was acted on[]
-- $12 id[]  $13 kind[]  $14 queue[]  $15 priority[]  $16 payload[]  $17 content_type[]  $18 spec[]  $19 route[]
-- $20 ordering_key[]  $21 due[], as job.enqueue; of one job each, sorted by id
-- Rows: one if it was written. A job whose id is there, waiting or over, stays as it is.
-- Indexes: trigger_pkey (namespace, name), trigger_heard_pkey (namespace, number), job_pkey, job_done_of_id. What is
-- listened to is read as a whole: there is little of it.

{bound}WITH made_row AS (
    INSERT INTO {schema}.trigger (namespace, name, version, definition, payload)
    SELECT $1::text, $2::text, 1, $4::text, $5::bytea
    WHERE $3::bigint = 0
    ON CONFLICT DO NOTHING
    RETURNING version
), changed AS (
    UPDATE {schema}.trigger r
    SET version = r.version + 1, definition = $4::text, payload = $5::bytea
    WHERE r.namespace = $1::text AND r.name = $2::text AND r.version = $3::bigint AND $3::bigint > 0
    RETURNING r.version
), written AS MATERIALIZED (
    SELECT made_row.version FROM made_row
    UNION ALL
    SELECT changed.version FROM changed
), unlistened AS (
    DELETE FROM {schema}.trigger_watch w
    USING written
    WHERE $6::boolean AND w.namespace = $1::text AND w.trigger = $2::text
), listened AS (
    INSERT INTO {schema}.trigger_watch (namespace, trigger, state, kind, queue, body)
    SELECT $1::text, $2::text, a.state, a.kind, a.queue, a.body
    FROM written, unnest($7::text[], $8::text[], $9::text[], $10::boolean[]) AS a (state, kind, queue, body)
    WHERE $6::boolean
), acted_on AS (
    DELETE FROM {schema}.trigger_heard h
    USING written, unnest($11::bigint[]) AS a (number)
    WHERE h.namespace = $1::text AND h.trigger = $2::text AND h.number = a.number
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
             unnest($12::uuid[], $13::text[], $14::text[], $15::smallint[], $16::bytea[], $17::text[], $18::text[], $19::text[],
                    $20::text[], $21::bigint[])
                 AS a (id, kind, queue, priority, payload, content_type, spec, route, ordering_key, due)
    ) a
    WHERE NOT EXISTS (SELECT FROM {schema}.job_done d WHERE d.namespace = $1::text AND d.id = a.id)
    ON CONFLICT DO NOTHING
    RETURNING namespace, id, kind, queue, priority, state, run_at, coalesce(route, '') AS route, ordering_key,
              ctid AS place
), {ordered_lanes}
SELECT w.version FROM written w
