-- session.drain: asks a session to take no more jobs, or to take some again.
--
-- $1 id  $2 draining
-- Rows: one if there is such a session.
-- Index: session_pkey (id).

UPDATE {schema}.session s
SET draining = $2::boolean
WHERE s.id = $1::uuid
RETURNING s.id
