-- service.prune: forgets terms that are over. The newest of each service stays, and what runs.
--
-- all  ?1 those that began until then, ?2 limit. Reads the table, for upkeep.
-- one  the same, ?3 namespace, ?4 service: of this one, as far as its first rows are old. By the primary key.

-- step: all
DELETE FROM onceward_term
WHERE (namespace, service, cycle, part) IN (
    SELECT m.namespace, m.service, m.cycle, m.part
    FROM onceward_term AS m
    WHERE m.started_at <= ?1 AND m.outcome <> 'running'
        AND EXISTS (
            SELECT 1
            FROM onceward_term AS n
            WHERE n.namespace = m.namespace AND n.service = m.service AND n.cycle > m.cycle
        )
    LIMIT ?2
)

-- step: one
DELETE FROM onceward_term
WHERE namespace = ?3 AND service = ?4 AND started_at <= ?1 AND outcome <> 'running'
    AND cycle <= min(
        (
            SELECT max(o.cycle)
            FROM (
                SELECT m.cycle
                FROM onceward_term AS m
                WHERE m.namespace = ?3 AND m.service = ?4
                ORDER BY m.cycle
                LIMIT ?2
            ) AS o
        ),
        (
            SELECT n.cycle - 1
            FROM onceward_term AS n
            WHERE n.namespace = ?3 AND n.service = ?4
            ORDER BY n.cycle DESC
            LIMIT 1
        )
    )
