-- service.prune: ?1 those that began until then, ?2 limit. The newest of each service stays, and what runs. Reads the table.
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
