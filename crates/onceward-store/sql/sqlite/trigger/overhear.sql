-- trigger.overhear: what triggers want to hear of a job that ends, before its row goes.
--
-- overheard  ?1 place of the job, ?2 token of its end, ?3 wall clock now, ?4 state, ?5 error. By the rowid; where nobody
--            listens it looks into an empty table, and reads nothing else. Once for a trigger, also where it listens to
--            that end in several ways: with the payload if it is wanted by one of them.
-- anybody    Whether anybody listens.

-- step: overheard
INSERT INTO onceward_trigger_heard (namespace, trigger, job, token, at, state, kind, queue, spec, error, body)
SELECT j.namespace, w.trigger, j.id, ?2, ?3, ?4, j.kind, j.queue, j.spec, ?5, iif(w.body, j.payload, NULL)
FROM onceward_trigger_watch AS w
CROSS JOIN onceward_job AS j ON j.place = ?1 AND j.namespace = w.namespace
WHERE w.state = ?4 AND (w.kind IS NULL OR w.kind = j.kind) AND (w.queue IS NULL OR w.queue = j.queue)
    AND NOT EXISTS (
        SELECT 1
        FROM onceward_trigger_watch AS v
        WHERE v.namespace = w.namespace AND v.trigger = w.trigger AND v.state = ?4
            AND (v.kind IS NULL OR v.kind = j.kind) AND (v.queue IS NULL OR v.queue = j.queue)
            AND (v.body, v.rowid) > (w.body, w.rowid)
    )

-- step: anybody
SELECT EXISTS (SELECT 1 FROM onceward_trigger_watch)
