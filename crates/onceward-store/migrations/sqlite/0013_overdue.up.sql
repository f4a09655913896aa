-- Finding jobs whose deadline has passed and that nobody takes: as on PostgreSQL.

CREATE INDEX onceward_job_overdue ON onceward_job (
    namespace,
    min(ifnull(json_extract(spec, '$.deadline_us'), 4611686018427387903),
        enqueued_at + ifnull(json_extract(spec, '$.expiry_us'), 4611686018427387903))
) WHERE (instr(spec, '"deadline_us":') > 0 OR instr(spec, '"expiry_us":') > 0)
    AND state IN ('scheduled', 'ready', 'retrying');
