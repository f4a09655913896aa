-- service.end: ?1 namespace, ?2 service, ?3 cycle, ?4 part, ?5 token, ?6 outcome, ?7 reason, ?8 wall clock now. By the
-- primary key.
UPDATE onceward_term
SET outcome = ?6, reason = ?7, ended_at = ?8
WHERE namespace = ?1 AND service = ?2 AND cycle = ?3 AND part = ?4 AND token = ?5 AND outcome = 'running'
