-- Finding jobs whose deadline has passed and that nobody takes: as on PostgreSQL.

CREATE INDEX onceward_job_overdue ON onceward_job (namespace, json_extract(spec, '$.deadline_us'))
    WHERE instr(spec, '"deadline_us":') > 0 AND state IN ('scheduled', 'ready', 'retrying');
