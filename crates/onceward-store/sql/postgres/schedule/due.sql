-- schedule.due: the schedules that are due, and when the next one is.
--
-- $1 namespace  $2 limit
-- Rows: now, when the next one is due of those that are not yet, then name, version, next_at, definition, payload; one row
-- of NULLs but for the first two if nothing is due.
-- Index: schedule_due (namespace, next_at).

WITH t AS MATERIALIZED (
    SELECT {clock} AS now
), due AS MATERIALIZED (
    SELECT s.*
    FROM t
    JOIN {schema}.schedule s ON s.namespace = $1::text AND s.next_at <= t.now
    ORDER BY s.next_at, s.name
    LIMIT $2::bigint
)
SELECT t.now, (SELECT min(s.next_at) FROM {schema}.schedule s WHERE s.namespace = $1::text AND s.next_at > t.now),
       d.name, d.version, d.next_at, d.definition, d.payload
FROM t
LEFT JOIN due d ON true
ORDER BY d.next_at, d.name
