-- run.load: reads parts of journals.
--
-- $1 namespace[]  $2 run[]  $3 from seq[]  $4 limit[]; of one part each
-- Rows: n (place in the arrays, from 1), seq, at, token, position, op, phase, name, data; each part in order.
-- Index: run_journal_pkey (namespace, run, seq).

SELECT a.n, j.seq, j.at, j.token, j.position, j.op, j.phase, j.name, j.data
FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::bigint[]) WITH ORDINALITY AS a (namespace, run, since, most, n)
CROSS JOIN LATERAL (
    SELECT j.*
    FROM {schema}.run_journal j
    WHERE j.namespace = a.namespace AND j.run = a.run AND j.seq >= a.since
    ORDER BY j.seq
    LIMIT a.most
) j
