-- job.overdue: jobs that have not ended, that nobody runs, and whose deadline has passed.
--
-- $1 namespace  $2 limit
-- Rows: id.
-- Index: job_overdue (namespace, the deadline in the spec), of those that have one and have not ended.

SELECT f.id
FROM (SELECT (extract(epoch FROM {clock}) * 1000000)::bigint AS now OFFSET 0) t
CROSS JOIN LATERAL (
    SELECT j.id
    FROM {schema}.job j
    WHERE j.namespace = $1::text
      AND (j.spec LIKE '%"deadline_us":%' OR j.spec LIKE '%"expiry_us":%')
      AND j.state IN ('scheduled', 'ready', 'retrying')
      AND least((j.spec::jsonb ->> 'deadline_us')::bigint,
                (extract(epoch FROM j.enqueued_at - TIMESTAMPTZ '1970-01-01 00:00:00+00') * 1000000)::bigint
                    + (j.spec::jsonb ->> 'expiry_us')::bigint) <= t.now
      AND NOT EXISTS (SELECT FROM {schema}.job_claim c
                      WHERE c.namespace = j.namespace AND j.id = ANY (c.jobs) AND c.token > j.token)
    ORDER BY least((j.spec::jsonb ->> 'deadline_us')::bigint,
                   (extract(epoch FROM j.enqueued_at - TIMESTAMPTZ '1970-01-01 00:00:00+00') * 1000000)::bigint
                       + (j.spec::jsonb ->> 'expiry_us')::bigint)
    LIMIT $2::bigint
) f
