-- service.begin, by the primary key. The lease is read by lease.lookup.
--
-- read     ?1 namespace, ?2 service, ?3 cycle, ?4 part. The row of the cycle.
-- earlier  the same, ?5 recorded as missed until then. How far the one before reaches.
-- begin    ?1 namespace, ?2 service, ?3 cycle, ?4 part, ?5 due_at, ?6 session, ?7 owner, ?8 token, ?9 wall clock now. It
--          takes the place of one that was handed over, or recorded as missed by a clock that was ahead.

-- step: read
SELECT outcome, token, started_at FROM onceward_term WHERE namespace = ?1 AND service = ?2 AND cycle = ?3 AND part = ?4

-- step: earlier
SELECT cycle + cycles
FROM onceward_term
WHERE namespace = ?1 AND service = ?2 AND cycle < ?3 AND part = ?4
    AND (outcome <> 'missed' OR started_at <= ?5)
ORDER BY cycle DESC
LIMIT 1

-- step: begin
INSERT OR REPLACE INTO onceward_term (
    namespace, service, cycle, part, due_at, cycles, session, owner, token, started_at, outcome
) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?9, 'running')
