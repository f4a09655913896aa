-- service.miss: ?1 namespace, ?2 service, ?3 cycle, ?4 part, ?5 due_at, ?6 cycles, ?7 reason, ?8 wall clock now, ?9 what
-- was recorded after that was recorded by a clock that was ahead. What has another row keeps it. By the primary key.
INSERT INTO onceward_term (
    namespace, service, cycle, part, due_at, cycles, token, started_at, ended_at, outcome, reason
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?8, ?8, 'missed', ?7)
ON CONFLICT (namespace, service, cycle, part)
DO UPDATE SET due_at = excluded.due_at, cycles = excluded.cycles, started_at = excluded.started_at,
    ended_at = excluded.ended_at, reason = excluded.reason
WHERE outcome = 'missed' AND started_at > ?9
