-- service.prune: forgets terms that are over. The newest of each service stays, and what runs.
--
-- $1 how old, in microseconds  $2 limit
-- Rows: one: how many went.
-- Reads the table, which is small: an index on times would be written with every term.

WITH over AS MATERIALIZED (
    SELECT m.namespace, m.service, m.cycle, m.part
    FROM {schema}.term m
    WHERE m.started_at <= {clock} - $1::bigint * interval '1 microsecond' AND m.outcome <> 'running'
      AND EXISTS (SELECT FROM {schema}.term n
                  WHERE n.namespace = m.namespace AND n.service = m.service AND n.cycle > m.cycle)
    LIMIT $2::bigint
    FOR UPDATE OF m SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.term m
    USING over o
    WHERE m.namespace = o.namespace AND m.service = o.service AND m.cycle = o.cycle AND m.part = o.part
    RETURNING 1
)
SELECT count(*) FROM gone
