-- job.lanes: the lane after another one, by the primary key: a lane is named once, however many wait in it. Those that
-- are claimed alone lie behind the others of their kind and tags, so a lane that begins with one holds only such.
-- ?1 namespace, ?2 queue, ?3 kind, ?4 route.
SELECT kind, route, alone
FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND (kind, route) > (?3, ?4)
ORDER BY kind, route, alone
LIMIT 1
