-- trigger.overhear: what triggers want to hear of jobs that end, with the statement that ends them. It stands in
-- job.settle, job.settle_in, job.move and run.append, as what follows their CTE "ended" (namespace, id, token, now, state,
-- kind, queue, spec, error, payload). Where nobody listens it looks into an empty table, and reads nothing else.
-- A trigger hears of an end once, also where it listens to it in several ways: with the payload if one of them wants it.

-- step: overheard
overheard AS (
    INSERT INTO {schema}.trigger_heard (namespace, trigger, job, token, at, state, kind, queue, spec, error, body)
    SELECT DISTINCT ON (e.namespace, w.trigger, e.id, e.token)
           e.namespace, w.trigger, e.id, e.token, e.now, e.state, e.kind, e.queue, e.spec, e.error,
           CASE WHEN w.body THEN e.payload END
    FROM {schema}.trigger_watch w
    JOIN ended e ON e.namespace = w.namespace AND e.state = w.state
    WHERE (w.kind IS NULL OR w.kind = e.kind) AND (w.queue IS NULL OR w.queue = e.queue)
    ORDER BY e.namespace, w.trigger, e.id, e.token, w.body DESC
)
