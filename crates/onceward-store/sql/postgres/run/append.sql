-- run.append: adds to journals, for the session that has the runs and as long as it lasts; with the same commit children
-- are enqueued, what stands in the journal now waits no more, and children whose end stands in it are over.
--
-- entry: one entry of one run that starts nothing and has taken nothing, as of a step of which nobody else has one now
--   $1 namespace  $2 run  $3 session  $4 token  $5 seq  $6 at  $7 position  $8 op  $9 phase  $10 name  $11 data
--   Rows: one, if the run is this session's
-- entries: where nothing is started and nothing was taken, as of most steps
--   $1 namespace[]  $2 run[]  $3 session[]  $4 token[]  $5 to $12 as below
-- any: what may have been written before, or by somebody else
-- $1 namespace[]  $2 run[]  $3 session[]  $4 token[]; of one run each, sorted by (namespace, run)
-- $5 run (its place in the arrays, from 1)[]  $6 seq[]  $7 at[]  $8 position[]  $9 op[]  $10 phase[]  $11 name[]  $12 data[];
--   of one entry each
-- $13 run[]  $14 id[]; of one arrival each
-- $15 run[]  $16 seq of the entry that starts it[]  $17 id[]  $18 kind[]  $19 queue[]  $20 priority[]  $21 content_type[]
--   $22 route[]  $23 payload[]  $24 spec[]  $25 due[] (as in job.enqueue)  $46 ordering_key[]; of one child each, sorted by id
-- $26 how many children have ended[]  $27 the last of its entries[]; of one run each, as $1
-- $28 run[]  $29 id[]  $30 place[]  $31 fence[]  $32 token[]  $33 started_at[]  $34 worker[]  $35 attempt[]  $36 lost[]
--   $37 retain_us[]  $38 result[]  $39 result_type[]  $40 result_size[]; of one child each that has ended, sorted by id
-- $41 finished claims[]; they go if all of those were there
-- $42 the children that are claimed at once[]  $43 namespace  $44 session  $45 claim
-- ordered: the same, where a child has an ordering key
-- fresh: as any, of which nothing was written before, and without ordering keys
-- held, journal, over, kept, children, placed, starts, ends: what they have in common
-- entry, entries and fresh fail with 23505 where something is there already: then any tells what it is.
-- Rows of entries: n (the place of a run in the arrays), of those that were added to. Rows of any: the same, and with NULL
--   for n the token and the time of the claim, id and place of each child that was claimed. An entry that is there
--   already stays, and the child it starts is not enqueued again.
-- A run of which a child that has ended is not there any more is not added to, unless all of it was sent before.
-- A session that has run out is locked by whoever rescues its jobs: after that it is not there, or over.
-- Indexes: session_pkey, job_pkey, run_journal_pkey, run_inbox_pkey, places.

-- step: held
alive AS MATERIALIZED (
    SELECT s.id, s.expires_at
    FROM {bounded}(SELECT DISTINCT a.session FROM unnest($3::uuid[]) AS a (session)) a
    JOIN {schema}.session s ON s.id = a.session
    FOR KEY SHARE OF s
)

-- step: journal
added AS (
    INSERT INTO {schema}.run_journal (namespace, run, seq, at, token, position, op, phase, name, data)
    SELECT ($1::text[])[e.of], ($2::uuid[])[e.of], e.seq, e.at, ($4::bigint[])[e.of], e.position, e.op, e.phase, e.name,
           e.data
    FROM asked a,
         unnest($5::integer[], $6::integer[], $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[],
                $12::bytea[]) AS e (of, seq, at, position, op, phase, name, data)
    WHERE a.mine[e.of]

-- step: entry
{bound}WITH alive AS MATERIALIZED (
    SELECT s.expires_at
    FROM {bounded}{schema}.session s
    WHERE s.id = $3::uuid
    FOR KEY SHARE OF s
), mine AS MATERIALIZED (
    SELECT 1::bigint AS n
    FROM alive h, {schema}.job j
    WHERE h.expires_at > {clock} AND j.namespace = $1::text AND j.id = $2::uuid AND j.token < $4::bigint
      AND j.state NOT IN ('dead', 'uncertain')
), added AS (
    INSERT INTO {schema}.run_journal (namespace, run, seq, at, token, position, op, phase, name, data)
    SELECT $1::text, $2::uuid, $5::integer, $6::timestamptz, $4::bigint, $7::text, $8::text, $9::text, $10::text,
           $11::bytea
    FROM mine
)
SELECT m.n FROM mine m

-- step: entries
{bound}WITH {held}, asked AS MATERIALIZED (
    -- Of each run, in the order of the arrays: entries find theirs by its number.
    SELECT array_agg(h.expires_at > {clock} AND j.token < a.token AND j.state NOT IN ('dead', 'uncertain')
                     ORDER BY a.n) AS mine
    FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[]) WITH ORDINALITY AS a (namespace, run, session, token, n)
    LEFT JOIN alive h ON h.id = a.session
    LEFT JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.run
), {journal}
)
SELECT m.n FROM asked a, unnest(a.mine) WITH ORDINALITY AS m (mine, n) WHERE m.mine

-- step: over
over AS (
    DELETE FROM {schema}.job j
    USING (
        SELECT e.*, t.now
        FROM {bounded}(SELECT {clock} AS now OFFSET 0) t,
             unnest($28::integer[], $29::uuid[], $30::tid[], $31::bigint[], $32::bigint[], $33::timestamptz[], $34::text[],
                    $35::integer[], $36::integer[], $37::bigint[], $38::bytea[], $39::text[], $40::bigint[])
                 AS e (of, id, place, fence, token, started_at, worker, attempt, lost, retain_us, result, result_type,
                       result_size)
    ) e
    WHERE j.ctid = e.place AND j.id = e.id AND j.namespace = ($1::text[])[e.of] AND j.token < e.fence
      AND j.dedupe_key IS NULL AND j.ordering_key IS NULL AND j.called_off IS NULL
    RETURNING e.*, j.namespace, j.kind, j.queue, j.priority, j.enqueued_at, j.run_at, j.payload, j.content_type, j.spec,
              j.route, j.begun, j.past
), asked AS MATERIALIZED (
    -- Of each run, in the order of the arrays: whatever belongs to one finds it by its number.
    SELECT array_agg(h.expires_at > {clock} AND j.token < a.token AND j.state NOT IN ('dead', 'uncertain')
                     AND (coalesce(o.count, 0) = a.ended
                          OR EXISTS (SELECT FROM {schema}.run_journal r
                                     WHERE r.namespace = a.namespace AND r.run = a.run AND r.seq = a.last))
                     ORDER BY a.n) AS mine,
           {clock} AS now
    FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[], $26::integer[], $27::integer[]) WITH ORDINALITY
             AS a (namespace, run, session, token, ended, last, n)
    LEFT JOIN alive h ON h.id = a.session
    LEFT JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.run
    LEFT JOIN (SELECT o.of, count(*) FROM over o GROUP BY o.of) o ON o.of = a.n
)

-- step: kept
kept AS (
    INSERT INTO {schema}.job_done (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                                   payload, content_type, spec, route, begun, attempted_at, finished_at, worker, result,
                                   result_type, result_size, past, forget_at)
    SELECT o.namespace, o.id, o.kind, o.queue, o.priority, 'succeeded', o.token, o.attempt, o.lost, o.enqueued_at,
           o.run_at, o.payload, o.content_type, o.spec, o.route, o.begun, o.started_at, o.now, o.worker, o.result,
           o.result_type, o.result_size, o.past, o.now + o.retain_us * interval '1 microsecond'
    FROM over o
    WHERE o.retain_us > 0
), told AS (
    -- What its run did not take arrives for it as from anybody.
    INSERT INTO {schema}.run_inbox (namespace, run, id, at, word, name, data)
    SELECT o.namespace, ($2::uuid[])[o.of], o.id, o.now, 'succeeded', '', o.result
    FROM asked a, over o
    WHERE a.mine[o.of] IS NOT TRUE
    ON CONFLICT (namespace, run, id) DO NOTHING
), ended AS (
    SELECT o.namespace, o.id, o.token, o.now, 'succeeded'::text AS state, o.kind, o.queue, o.spec, NULL::text AS error,
           o.payload
    FROM over o
), {overheard}, taken AS (
    DELETE FROM {schema}.run_inbox i
    USING asked a, unnest($13::integer[], $14::uuid[]) AS d (of, id)
    WHERE a.mine[d.of] AND i.namespace = ($1::text[])[d.of] AND i.run = ($2::uuid[])[d.of] AND i.id = d.id
)

-- step: children
written AS (
    INSERT INTO {schema}.job (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                              payload, content_type, spec, route, ordering_key)
    SELECT c.namespace, c.id, c.kind, c.queue, c.priority, CASE WHEN c.run_at > c.now THEN 'scheduled' ELSE 'ready' END,
           0, 0, 0, c.now, c.run_at, c.payload, c.content_type, c.spec, c.route, c.ordering_key
    FROM (
        SELECT c.*, ($1::text[])[c.of] AS namespace, ($2::uuid[])[c.of] AS run, a.now,
               CASE WHEN c.due IS NULL THEN a.now
                    WHEN c.due < 0 THEN a.now - c.due * interval '1 microsecond'
                    ELSE timestamptz 'epoch' + c.due * interval '1 microsecond' END AS run_at
        FROM asked a,
             unnest($15::integer[], $16::integer[], $17::uuid[], $18::text[], $19::text[], $20::smallint[], $21::text[],
                    $22::text[], $23::bytea[], $24::text[], $25::bigint[], $46::text[])
                 AS c (of, seq, id, kind, queue, priority, content_type, route, payload, spec, due, ordering_key)
        WHERE a.mine[c.of]
    ) c

-- step: placed
    RETURNING namespace, id, kind, queue, priority, state, enqueued_at, run_at, coalesce(route, '') AS route, ordering_key,
              ctid AS place
), placed AS MATERIALIZED (
    SELECT w.*,
           w.state = 'ready' AND w.id = ANY ($42::uuid[])
           AND NOT EXISTS (SELECT FROM {schema}.job_queue q
                           WHERE q.namespace = w.namespace AND q.queue = w.queue
                             AND (q.paused_at IS NOT NULL OR q.limits_at IS NOT NULL)) AS taken
    FROM written w
), made AS (
    SELECT p.* FROM placed p WHERE NOT p.taken
)

-- step: starts
{over}, {journal}
    ON CONFLICT (namespace, run, seq) DO NOTHING
), {kept}, {children}
    -- As it was before this statement: an entry that was there has started its child before.
    WHERE NOT EXISTS (SELECT FROM {schema}.run_journal j
                      WHERE j.namespace = c.namespace AND j.run = c.run AND j.seq = c.seq)
    ON CONFLICT (namespace, id) DO NOTHING
{placed}

-- step: ends
claimed AS (
    INSERT INTO {schema}.job_claim (id, namespace, session, token, claimed_at, jobs)
    SELECT $45::uuid, $43::text, $44::uuid, (extract(epoch FROM t.now) * 1000000)::bigint, t.now, t.jobs
    FROM (SELECT max(p.enqueued_at) AS now, array_agg(p.id ORDER BY - p.priority, p.run_at, p.id) AS jobs
          FROM placed p WHERE p.taken HAVING count(*) > 0) t
    RETURNING token, claimed_at
), closed AS (
    DELETE FROM {schema}.job_claim c
    WHERE c.id = ANY ($41::uuid[]) AND (SELECT count(*) FROM over) = cardinality($29::uuid[])
)
SELECT m.n, NULL::bigint AS token, NULL::timestamptz AS claimed_at, NULL::uuid AS id, NULL::tid AS place
FROM asked a, unnest(a.mine) WITH ORDINALITY AS m (mine, n)
WHERE m.mine
UNION ALL
SELECT NULL, c.token, c.claimed_at, p.id, p.place
FROM claimed c
JOIN placed p ON p.taken

-- step: any
{bound}WITH {held}, {starts}, {lanes}, {ends}

-- step: ordered
{bound}WITH {held}, {starts}, {ordered_lanes}, {ends}

-- step: fresh
{bound}WITH {held}, {over}, {journal}
), {kept}, {children}
{placed}, {lanes}, {ends}
