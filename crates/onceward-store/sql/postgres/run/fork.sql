-- run.fork: starts runs whose journals begin with a part of those of others. All of them or none.
--
-- $1 namespace[]  $2 id[]  $3 the run whose journal it is[]  $4 until which entry[]  $5 kind[]  $6 queue[]  $7 priority[]
--   $8 payload[]  $9 content_type[]  $10 spec[]  $11 route[]  $12 ordering_key[]; of one run each, sorted by id
-- $13 run (its place in the arrays, from 1)[]  $14 seq[]; entries that are left out
-- $15 run[]  $16 seq[]  $17 data[]; what stands in others instead
-- $18 run[]  $19 at[]  $20 position[]  $21 op[]  $22 phase[]  $23 name[]  $24 data[]; what follows, in order
-- $25 the last attempt that has written what is copied[]; of one run each, as $1
-- Rows: n (place in the arrays), and whether it is there, by this send or an earlier one; false of all of them where a
--   journal does not reach that far, or is forgotten.
-- The job has the token of an attempt that has ended: whoever takes it up reads its journal.
-- Indexes: job_pkey, job_done_of_id, run_journal_pkey; job_ready_lane and job_held_of_key for one row.

WITH ask AS MATERIALIZED (
    SELECT a.*, t.now, (extract(epoch FROM t.now) * 1000000)::bigint AS token
    FROM (SELECT {clock} AS now OFFSET 0) t,
         unnest($1::text[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::smallint[], $8::bytea[],
                $9::text[], $10::text[], $11::text[], $12::text[], $25::bigint[]) WITH ORDINALITY
             AS a (namespace, id, source, until, kind, queue, priority, payload, content_type, spec, route, ordering_key,
                   by, n)
), seen AS MATERIALIZED (
    SELECT a.n,
           EXISTS (SELECT FROM {schema}.job j WHERE j.namespace = a.namespace AND j.id = a.id)
           OR EXISTS (SELECT FROM {schema}.job_done d WHERE d.namespace = a.namespace AND d.id = a.id) AS known,
           (SELECT count(*)
            FROM {schema}.run_journal e
            WHERE e.namespace = a.namespace AND e.run = a.source AND e.seq < a.until
              AND e.token <= a.by) = a.until AS whole
    FROM ask a
), written AS (
    INSERT INTO {schema}.job (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                              payload, content_type, spec, route, ordering_key)
    SELECT a.namespace, a.id, a.kind, a.queue, a.priority, 'ready', a.token, 0, 0, a.now, a.now, a.payload,
           a.content_type, a.spec, a.route, a.ordering_key
    FROM ask a
    JOIN seen s ON s.n = a.n
    WHERE NOT s.known AND (SELECT bool_and(s.known OR s.whole) FROM seen s)
    ON CONFLICT (namespace, id) DO NOTHING
    RETURNING namespace, id, kind, queue, priority, run_at, token, coalesce(route, '') AS route, ordering_key, ctid AS place
), ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
               hashtextextended(w.namespace, 0)))),
           w.namespace, w.queue, w.kind, w.route, false, - w.priority, w.run_at, w.id, w.token, w.place
    FROM written w
    WHERE w.ordering_key IS NULL
), held AS (
    INSERT INTO {schema}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT w.namespace, w.queue, w.kind, w.route, - w.priority, w.run_at, w.id, w.token, w.place, w.ordering_key
    FROM written w
    WHERE w.ordering_key IS NOT NULL
), arrived AS (
    INSERT INTO {schema}.job_arrived (namespace, ordering_key)
    SELECT DISTINCT w.namespace, w.ordering_key
    FROM written w
    WHERE w.ordering_key IS NOT NULL
), copied AS (
    INSERT INTO {schema}.run_journal (namespace, run, seq, at, token, position, op, phase, name, data)
    SELECT w.namespace, w.id, row_number() OVER (PARTITION BY w.namespace, w.id ORDER BY e.follows, e.seq) - 1, e.at,
           e.token, e.position, e.op, e.phase, e.name, e.data
    FROM written w
    JOIN ask a ON a.namespace = w.namespace AND a.id = w.id
    CROSS JOIN LATERAL (
        SELECT false AS follows, e.seq::bigint AS seq, e.at, e.token, e.position, e.op, e.phase, e.name,
               coalesce(i.data, e.data) AS data
        FROM {schema}.run_journal e
        LEFT JOIN unnest($15::integer[], $16::integer[], $17::bytea[]) AS i (of, seq, data) ON i.of = a.n AND i.seq = e.seq
        WHERE e.namespace = a.namespace AND e.run = a.source AND e.seq < a.until
          AND NOT EXISTS (SELECT FROM unnest($13::integer[], $14::integer[]) AS o (of, seq)
                          WHERE o.of = a.n AND o.seq = e.seq)
        UNION ALL
        SELECT true, m.n, m.at, a.token, m.position, m.op, m.phase, m.name, m.data
        FROM unnest($18::integer[], $19::timestamptz[], $20::text[], $21::text[], $22::text[], $23::text[], $24::bytea[])
                 WITH ORDINALITY AS m (of, at, position, op, phase, name, data, n)
        WHERE m.of = a.n
    ) e
)
SELECT s.n, (SELECT bool_and(s.known OR s.whole) FROM seen s) AS is_there FROM seen s
