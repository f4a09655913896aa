-- service.prune: forgets terms that are over. The newest of each service stays, and what runs.
--
-- all  $1 how old, in microseconds  $2 limit
--      Rows: one: how many went. Reads the table, for upkeep: an index on times would be written with every term.
-- one  the same, $3 namespace  $4 service: of this one, as far as its first rows are old.
--      Index: term_pkey (namespace, service, cycle, part).

-- step: all
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

-- step: one
WITH oldest AS MATERIALIZED (
    SELECT m.cycle, m.part, m.started_at, m.outcome
    FROM {schema}.term m
    WHERE m.namespace = $3::text AND m.service = $4::text
    ORDER BY m.cycle, m.part
    LIMIT $2::bigint
), over AS MATERIALIZED (
    SELECT m.cycle, m.part
    FROM oldest o
    CROSS JOIN LATERAL (
        SELECT m.cycle, m.part
        FROM {schema}.term m
        WHERE m.namespace = $3::text AND m.service = $4::text AND m.cycle = o.cycle AND m.part = o.part
          AND m.outcome <> 'running'
        FOR UPDATE OF m SKIP LOCKED
    ) m
    WHERE o.started_at <= {clock} - $1::bigint * interval '1 microsecond' AND o.outcome <> 'running'
      AND EXISTS (SELECT FROM {schema}.term n
                  WHERE n.namespace = $3::text AND n.service = $4::text AND n.cycle > o.cycle)
), gone AS (
    DELETE FROM {schema}.term m
    USING over o
    WHERE m.namespace = $3::text AND m.service = $4::text AND m.cycle = o.cycle AND m.part = o.part
    RETURNING 1
)
SELECT count(*) FROM gone
