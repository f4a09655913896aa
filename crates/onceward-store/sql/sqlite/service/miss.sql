-- service.miss: ?1 namespace, ?2 service, ?3 cycle, ?4 part, ?5 due_at, ?6 cycles, ?7 reason, ?8 wall clock now. What has a
-- row keeps it. By the primary key.
INSERT INTO onceward_term (
    namespace, service, cycle, part, due_at, cycles, token, started_at, ended_at, outcome, reason
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?8, ?8, 'missed', ?7)
ON CONFLICT DO NOTHING
