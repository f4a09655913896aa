-- run.append, under the write lock: adds to journals. Whether the run still is this attempt's was looked at before.
--
-- holds  ?1 namespace, ?2 run, ?3 token. Whether the run is still this attempt's.
-- entry  ?1 namespace, ?2 run, ?3 seq, ?4 at, ?5 token, ?6 position, ?7 op, ?8 phase, ?9 name, ?10 data.
--        One that is there already stays.
-- take   ?1 namespace, ?2 run, ?3 id.

-- step: holds
SELECT EXISTS (
    SELECT 1 FROM onceward_job
    WHERE namespace = ?1 AND id = ?2 AND token < ?3 AND state NOT IN ('dead', 'uncertain')
)

-- step: entry
INSERT INTO onceward_run_journal (namespace, run, seq, at, token, position, op, phase, name, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT DO NOTHING

-- step: take
DELETE FROM onceward_run_inbox WHERE namespace = ?1 AND run = ?2 AND id = ?3
