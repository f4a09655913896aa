-- job.progress: writes down how far jobs are, where their attempts are the current ones.
--
-- $1 namespace[]  $2 id[]  $3 token[]  $4 what is said[]  $5 its content type[]; one job each, sorted by (namespace, id)
-- Rows: n (place in the arrays, from 1); only of those that still run.
-- Index: job_pkey (namespace, id).

{bound}UPDATE {schema}.job j
SET result = a.said, result_type = a.said_type, result_size = octet_length(a.said)
FROM {bounded}unnest($1::text[], $2::uuid[], $3::bigint[], $4::bytea[], $5::text[]) WITH ORDINALITY
    AS a (namespace, id, token, said, said_type, n)
WHERE j.namespace = a.namespace AND j.id = a.id AND j.token < a.token AND j.state NOT IN ('dead', 'uncertain')
RETURNING a.n
