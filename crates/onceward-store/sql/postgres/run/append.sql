-- run.append: adds to journals, for the session that has the runs and as long as it lasts; with the same commit children
-- are enqueued, and what stands in the journal now waits no more.
--
-- entries: where nothing is started and nothing was taken, as of most steps
--   $1 namespace[]  $2 run[]  $3 session[]  $4 token[]  $5 to $12 as below
-- any
-- $1 namespace[]  $2 run[]  $3 session[]  $4 token[]; of one run each, sorted by (namespace, run)
-- $5 run (its place in the arrays, from 1)[]  $6 seq[]  $7 at[]  $8 position[]  $9 op[]  $10 phase[]  $11 name[]  $12 data[];
--   of one entry each
-- $13 run[]  $14 id[]; of one arrival each
-- $15 run[]  $16 seq of the entry that starts it[]  $17 id[]  $18 kind[]  $19 queue[]  $20 priority[]  $21 content_type[]
--   $22 route[]  $23 payload[]  $24 spec[]  $25 due[] (as in job.enqueue); of one child each, sorted by id
-- added: what both begin with
-- Rows: n (the place of a run in the arrays), of those that were added to. An entry that is there already stays, and the
--   child it starts is not enqueued again.
-- A session that has run out is locked by whoever rescues its jobs: after that it is not there, or over.
-- Indexes: session_pkey, job_pkey, run_journal_pkey, run_inbox_pkey.

-- step: added
held AS MATERIALIZED (
    SELECT s.id, s.expires_at
    FROM {bounded}(SELECT DISTINCT a.session FROM unnest($3::uuid[]) AS a (session)) a
    JOIN {schema}.session s ON s.id = a.session
    FOR KEY SHARE OF s
), asked AS MATERIALIZED (
    -- Of each run, in the order of the arrays: entries and children find theirs by its number.
    SELECT array_agg(h.expires_at > {clock} AND j.token < a.token AND j.state NOT IN ('dead', 'uncertain')
                     ORDER BY a.n) AS mine,
           {clock} AS now
    FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[]) WITH ORDINALITY AS a (namespace, run, session, token, n)
    LEFT JOIN held h ON h.id = a.session
    LEFT JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.run
), added AS (
    INSERT INTO {schema}.run_journal (namespace, run, seq, at, token, position, op, phase, name, data)
    SELECT ($1::text[])[e.of], ($2::uuid[])[e.of], e.seq, e.at, ($4::bigint[])[e.of], e.position, e.op, e.phase, e.name,
           e.data
    FROM asked a,
         unnest($5::integer[], $6::integer[], $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[],
                $12::bytea[]) AS e (of, seq, at, position, op, phase, name, data)
    WHERE a.mine[e.of]
    ON CONFLICT (namespace, run, seq) DO NOTHING
)

-- step: entries
{bound}WITH {added}
SELECT m.n FROM asked a, unnest(a.mine) WITH ORDINALITY AS m (mine, n) WHERE m.mine

-- step: any
{bound}WITH {added}, taken AS (
    DELETE FROM {schema}.run_inbox i
    USING asked a, unnest($13::integer[], $14::uuid[]) AS d (of, id)
    WHERE a.mine[d.of] AND i.namespace = ($1::text[])[d.of] AND i.run = ($2::uuid[])[d.of] AND i.id = d.id
), made AS (
    INSERT INTO {schema}.job (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                              payload, content_type, spec, route)
    SELECT c.namespace, c.id, c.kind, c.queue, c.priority, CASE WHEN c.run_at > c.now THEN 'scheduled' ELSE 'ready' END,
           0, 0, 0, c.now, c.run_at, c.payload, c.content_type, c.spec, c.route
    FROM (
        SELECT c.*, ($1::text[])[c.of] AS namespace, ($2::uuid[])[c.of] AS run, a.now,
               CASE WHEN c.due IS NULL THEN a.now
                    WHEN c.due < 0 THEN a.now - c.due * interval '1 microsecond'
                    ELSE timestamptz 'epoch' + c.due * interval '1 microsecond' END AS run_at
        FROM asked a,
             unnest($15::integer[], $16::integer[], $17::uuid[], $18::text[], $19::text[], $20::smallint[], $21::text[],
                    $22::text[], $23::bytea[], $24::text[], $25::bigint[])
                 AS c (of, seq, id, kind, queue, priority, content_type, route, payload, spec, due)
        WHERE a.mine[c.of]
    ) c
    -- As it was before this statement: an entry that was there has started its child before.
    WHERE NOT EXISTS (SELECT FROM {schema}.run_journal j
                      WHERE j.namespace = c.namespace AND j.run = c.run AND j.seq = c.seq)
    ON CONFLICT (namespace, id) DO NOTHING
    RETURNING namespace, id, kind, queue, priority, state, run_at, coalesce(route, '') AS route, ctid AS place
), {lanes}
SELECT m.n FROM asked a, unnest(a.mine) WITH ORDINALITY AS m (mine, n) WHERE m.mine
