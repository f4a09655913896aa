-- endpoint.list: a page of endpoints, by name.
--
-- $1 namespace  $2 names (NULL: all)  $3 only what comes after this one (NULL: all)  $4 limit
-- Rows: now, name, version, definition; one row of NULLs but for now if there is none.
-- Index: endpoint_pkey (namespace, name).

SELECT t.now, e.name, e.version, e.definition
FROM (SELECT {clock} AS now) t
LEFT JOIN (
    SELECT e.*
    FROM {schema}.endpoint e
    WHERE e.namespace = $1::text AND ($2::text[] IS NULL OR e.name = ANY ($2::text[]))
      AND ($3::text IS NULL OR e.name > $3::text)
    ORDER BY e.name
    LIMIT $4::bigint
) e ON true
ORDER BY e.name
