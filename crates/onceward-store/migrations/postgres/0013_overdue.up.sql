-- 0013: finding jobs whose deadline has passed and that nobody takes: no worker may know their kind any more.

-- A deadline is a time, or a span from the enqueue on; where both are said, the earlier one counts.
CREATE INDEX job_overdue ON {schema}.job (
    namespace,
    least((spec::jsonb ->> 'deadline_us')::bigint,
          (extract(epoch FROM enqueued_at - TIMESTAMPTZ '1970-01-01 00:00:00+00') * 1000000)::bigint
              + (spec::jsonb ->> 'expiry_us')::bigint)
) WHERE (spec LIKE '%"deadline_us":%' OR spec LIKE '%"expiry_us":%') AND state IN ('scheduled', 'ready', 'retrying');
