-- service.miss: cycles that nobody has begun. What has a row, or lies within one, keeps it.
--
-- $1 namespace[]  $2 service[]  $3 cycle[]  $4 part[]  $5 cycles[]  $6 due_at[]  $7 reason[]
-- Index: term_pkey (namespace, service, cycle, part).

INSERT INTO {schema}.term (namespace, service, cycle, part, due_at, cycles, token, started_at, ended_at, outcome, reason)
SELECT a.namespace, a.service, a.cycle, a.part, a.due_at, a.cycles, 0, t.now, t.now, 'missed', a.reason
FROM (SELECT {clock} AS now) t,
     unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[])
         AS a (namespace, service, cycle, part, cycles, due_at, reason)
WHERE NOT EXISTS (
    SELECT FROM (
        SELECT m.cycle + m.cycles AS until
        FROM {schema}.term m
        WHERE m.namespace = a.namespace AND m.service = a.service AND m.cycle < a.cycle AND m.part = a.part
        ORDER BY m.cycle DESC
        LIMIT 1
    ) earlier
    WHERE earlier.until > a.cycle
)
ORDER BY a.namespace, a.service, a.cycle, a.part
ON CONFLICT DO NOTHING
