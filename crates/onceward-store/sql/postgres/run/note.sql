-- run.note: what runs know of, and have no use for yet.
--
-- $1 namespace[]  $2 run[]  $3 id[]
-- Index: run_inbox_pkey (namespace, run, id).

UPDATE {schema}.run_inbox i
SET noted = true
FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS a (namespace, run, id)
WHERE i.namespace = a.namespace AND i.run = a.run AND i.id = a.id AND NOT i.noted
