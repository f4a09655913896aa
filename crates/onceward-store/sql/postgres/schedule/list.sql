-- schedule.list: a page of schedules, by name.
--
-- $1 namespace  $2 name (NULL: all)  $3 only what comes after this one (NULL: all)  $4 limit
-- Rows: now, name, version, next_at, definition, payload; one row of NULLs but for now if there is none.
-- Index: schedule_pkey (namespace, name).

SELECT t.now, s.name, s.version, s.next_at, s.definition, s.payload
FROM (SELECT {clock} AS now) t
LEFT JOIN (
    SELECT s.*
    FROM {schema}.schedule s
    WHERE s.namespace = $1::text AND ($2::text IS NULL OR s.name = $2::text) AND ($3::text IS NULL OR s.name > $3::text)
    ORDER BY s.name
    LIMIT $4::bigint
) s ON true
ORDER BY s.name
