-- queue.pause and resume. ?1 namespace, ?2 queue, ?3 paused_at, ?4 paused_by, ?5 reason; NULLs resume. By the primary key.
INSERT INTO onceward_job_queue (namespace, queue, paused_at, paused_by, pause_reason) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (namespace, queue) DO UPDATE SET paused_at = ?3, paused_by = ?4, pause_reason = ?5
