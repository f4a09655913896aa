-- trigger.list: a page of triggers, by name.
--
-- $1 namespace  $2 names[] (NULL: all)  $3 only what comes after this one (NULL: all)  $4 limit
-- Rows: now, name, version, definition, payload; one row of NULLs but for now if there is none.
-- Index: trigger_pkey (namespace, name).

SELECT t.now, r.name, r.version, r.definition, r.payload
FROM (SELECT {clock} AS now) t
LEFT JOIN (
    SELECT r.*
    FROM {schema}.trigger r
    WHERE r.namespace = $1::text AND ($2::text[] IS NULL OR r.name = ANY ($2::text[]))
      AND ($3::text IS NULL OR r.name > $3::text)
    ORDER BY r.name
    LIMIT $4::bigint
) r ON true
ORDER BY r.name
