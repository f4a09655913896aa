-- service.miss: cycles that nobody has begun. What has a row, or lies within one, keeps it; what was written
-- by a clock that was ahead does not count, and is overwritten.
--
-- $1 namespace[]  $2 service[]  $3 cycle[]  $4 part[]  $5 cycles[]  $6 due_at[]  $7 reason[]
-- Index: term_pkey (namespace, service, cycle, part).

INSERT INTO {schema}.term AS w (namespace, service, cycle, part, due_at, cycles, token, started_at, ended_at, outcome, reason)
SELECT DISTINCT ON (a.namespace, a.service, a.cycle, a.part)
       a.namespace, a.service, a.cycle, a.part, a.due_at, a.cycles, 0, t.now, t.now, 'missed', a.reason
FROM (SELECT {clock} AS now) t,
     unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[])
         AS a (namespace, service, cycle, part, cycles, due_at, reason)
WHERE NOT EXISTS (
    SELECT FROM (
        SELECT m.cycle + m.cycles AS until
        FROM {schema}.term m
        WHERE m.namespace = a.namespace AND m.service = a.service AND m.cycle < a.cycle AND m.part = a.part
          AND (m.outcome <> 'missed' OR m.started_at <= t.now + interval '1 minute')
        ORDER BY m.cycle DESC
        LIMIT 1
    ) earlier
    WHERE earlier.until > a.cycle
)
ORDER BY a.namespace, a.service, a.cycle, a.part
ON CONFLICT (namespace, service, cycle, part)
DO UPDATE SET due_at = excluded.due_at, cycles = excluded.cycles, started_at = excluded.started_at,
              ended_at = excluded.ended_at, reason = excluded.reason
WHERE w.outcome = 'missed' AND w.started_at > excluded.started_at + interval '1 minute'
