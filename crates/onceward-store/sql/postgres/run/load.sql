-- run.load: reads a part of a journal.
--
-- $1 namespace  $2 run  $3 from seq  $4 limit
-- Rows: seq, at, token, position, op, phase, name, data; in order.
-- Index: run_journal_pkey (namespace, run, seq).

SELECT j.seq, j.at, j.token, j.position, j.op, j.phase, j.name, j.data
FROM {schema}.run_journal j
WHERE j.namespace = $1::text AND j.run = $2::uuid AND j.seq >= $3::integer
ORDER BY j.seq
LIMIT $4::bigint
