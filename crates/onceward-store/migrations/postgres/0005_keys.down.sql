ALTER FUNCTION {schema}.enqueue(text, text, bytea, jsonb) RESET lock_timeout;
DROP FUNCTION {schema}.let_through(text, text);
DELETE FROM {schema}.job_gate g
USING {schema}.job_gate first
WHERE first.namespace = g.namespace AND first.ordering_key = g.ordering_key AND first.seat < g.seat;
ALTER TABLE {schema}.job_gate DROP COLUMN seat;
ALTER TABLE {schema}.job_gate ADD CONSTRAINT job_gate_pkey PRIMARY KEY (namespace, ordering_key);
DROP INDEX {schema}.job_queue_keyed;
ALTER TABLE {schema}.job_queue
    DROP COLUMN keys_by,
    DROP COLUMN keys_at,
    DROP COLUMN key_concurrency;
