-- trigger.overhear: what triggers want to hear of a job that ends, before its row goes.
--
-- overheard  ?1 place of the job, ?2 token of its end, ?3 wall clock now, ?4 state, ?5 error. By the rowid; where nobody
--            listens it looks into an empty table, and reads nothing else.
-- anybody    Whether anybody listens.

-- step: overheard
INSERT INTO onceward_trigger_heard (namespace, trigger, job, token, at, state, kind, queue, spec, error, body)
SELECT j.namespace, w.trigger, j.id, ?2, ?3, ?4, j.kind, j.queue, j.spec, ?5, iif(w.body, j.payload, NULL)
FROM onceward_trigger_watch AS w
CROSS JOIN onceward_job AS j ON j.place = ?1 AND j.namespace = w.namespace
WHERE w.state = ?4 AND (w.kind IS NULL OR w.kind = j.kind) AND (w.queue IS NULL OR w.queue = j.queue)

-- step: anybody
SELECT EXISTS (SELECT 1 FROM onceward_trigger_watch)
