-- trigger.heard: what the triggers of a namespace have heard, in its order.
--
-- seen       ?1 namespace, ?2 names, a line break before and after each: not what these have heard, ?3 limit. By the rowid.
-- listening  ?1 namespace. Whether any of its triggers listens.

-- step: seen
SELECT number, trigger, job, token, at, state, kind, queue, spec, error, body
FROM onceward_trigger_heard
WHERE namespace = ?1 AND instr(?2, char(10) || trigger || char(10)) = 0
ORDER BY number
LIMIT ?3

-- step: listening
SELECT EXISTS (SELECT 1 FROM onceward_trigger_watch WHERE namespace = ?1)
