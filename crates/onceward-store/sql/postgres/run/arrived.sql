-- run.arrived: what has arrived for runs.
--
-- $1 namespace[]  $2 run[]
-- Rows: n (place in the arrays, from 1), id, at, word, name, data; of one run in the order in which it came.
-- Index: run_inbox_pkey (namespace, run, id).

SELECT a.n, i.id, i.at, i.word, i.name, i.data
FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS a (namespace, run, n)
JOIN {schema}.run_inbox i ON i.namespace = a.namespace AND i.run = a.run
ORDER BY a.n, i.at, i.id
