-- 0005: how many jobs of one ordering key run at the same time. See docs/decisions/011-keys.md.

-- What a queue is set to; NULL: one.
ALTER TABLE {schema}.job_queue
    ADD COLUMN key_concurrency integer,
    ADD COLUMN keys_at         timestamptz,
    ADD COLUMN keys_by         text;
-- The few that say more.
CREATE INDEX job_queue_keyed ON {schema}.job_queue (namespace, queue) WHERE key_concurrency > 1;

-- A job that was let through has a seat. Where no queue of the namespace says more than one, that is the first seat, so
-- that of two who let somebody through at the same time one does.
ALTER TABLE {schema}.job_gate ADD COLUMN seat bigint NOT NULL DEFAULT 1;
ALTER TABLE {schema}.job_gate DROP CONSTRAINT job_gate_pkey;
ALTER TABLE {schema}.job_gate ADD CONSTRAINT job_gate_pkey PRIMARY KEY (namespace, ordering_key, seat);

-- How many jobs of a key have been let through, how many the strictest of their queues allows (NULL: there are none),
-- and the highest seat. For whoever has the turn to let jobs through: it sees what is there now, and not what was when
-- the statement began that calls it.
CREATE FUNCTION {schema}.let_through(namespace text, ordering_key text, OUT jobs bigint, OUT most integer, OUT seat bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog AS $$
    SELECT count(*), min(coalesce(q.key_concurrency, 1)), coalesce(max(g.seat), 0)
    FROM {schema}.job_gate g
    LEFT JOIN LATERAL (
        SELECT j.queue FROM {schema}.job j WHERE j.namespace = g.namespace AND j.id = g.id LIMIT 1
    ) j ON true
    LEFT JOIN {schema}.job_queue q ON q.namespace = g.namespace AND q.queue = j.queue
    WHERE g.namespace = let_through.namespace AND g.ordering_key = let_through.ordering_key
$$;

REVOKE ALL ON FUNCTION {schema}.let_through(text, text) FROM PUBLIC;

-- An enqueue by SQL waits for somebody's open transaction with the same key as long as one by enqueue_in does, and no
-- longer: then it fails with 55P03.
ALTER FUNCTION {schema}.enqueue(text, text, bytea, jsonb) SET lock_timeout = '40ms';
