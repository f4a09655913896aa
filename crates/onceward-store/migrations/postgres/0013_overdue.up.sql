-- 0013: finding jobs whose deadline has passed and that nobody takes: no worker may know their kind any more.

CREATE INDEX job_overdue ON {schema}.job (namespace, ((spec::jsonb ->> 'deadline_us')::bigint))
    WHERE spec LIKE '%"deadline_us":%' AND state IN ('scheduled', 'ready', 'retrying');
