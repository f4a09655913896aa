-- upkeep.check: looks at the server, its settings and our tables, at start and for `onceward doctor`.
--
-- lineage: one row: system_identifier, timeline, synchronous_commit; asked on each connection. The timeline is not from
--   pg_control_checkpoint(), which is late after a promotion (E7).
-- settings: one row, see the names of its columns.
-- migrations: what the schema has seen, in order: version, name, checksum, applied_at.
-- objects: $1 names of tables; a row for each: name, kind (NULL: absent), triggers, foreign keys, whether row security
--   applies to us, missing rights.
-- functions: a row for each function of ours that statements call and that we may not execute: its name.
-- transactions: $1 their numbers, as text; a row for each: committed, aborted, in progress, or NULL where nobody knows any
--   more, or where the number is not one of this cluster.
-- tokens: one row: how many seconds the largest token is ahead of the clock, of $1 leases at most.

-- step: lineage
SELECT (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline,
       current_setting('synchronous_commit') AS synchronous_commit

-- step: settings
SELECT current_setting('server_version_num')::bigint AS version_num,
       current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       pg_is_in_recovery() AS in_recovery,
       current_setting('transaction_read_only') AS read_only,
       pg_notification_queue_usage() AS notification_queue,
       to_regnamespace('{schema}') IS NOT NULL AS has_schema,
       coalesce(has_schema_privilege(to_regnamespace('{schema}'), 'USAGE'), false) AS may_use_schema,
       EXISTS (SELECT FROM pg_class c
               WHERE c.relnamespace = to_regnamespace('{schema}') AND c.relname = 'migration') AS has_migrations

-- step: migrations
SELECT m.version, m.name, m.checksum, m.applied_at
FROM {schema}.migration m
ORDER BY m.version

-- step: objects
SELECT t.name, c.relkind::text AS kind,
       (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) AS triggers,
       (SELECT count(*) FROM pg_constraint f WHERE f.contype = 'f' AND c.oid IN (f.conrelid, f.confrelid)) AS foreign_keys,
       coalesce(row_security_active(c.oid), false) AS row_security,
       (SELECT string_agg(r.name, ', ' ORDER BY r.name)
        FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) r (name)
        WHERE NOT has_table_privilege(c.oid, r.name)) AS missing
FROM unnest($1::text[]) t (name)
LEFT JOIN pg_class c ON c.relnamespace = to_regnamespace('{schema}') AND c.relname = t.name

-- step: functions
SELECT p.proname::text
FROM pg_proc p
WHERE p.pronamespace = to_regnamespace('{schema}') AND p.proname = 'let_through'
  AND NOT has_function_privilege(p.oid, 'EXECUTE')

-- step: tokens
SELECT coalesce(max(l.token) / 1000000.0 - extract(epoch FROM {clock}), 0)::double precision AS ahead
FROM (SELECT token FROM {schema}.lease LIMIT $1::bigint) l

-- step: transactions
SELECT CASE WHEN t.number::xid8 < pg_snapshot_xmax(pg_current_snapshot()) THEN pg_xact_status(t.number::xid8) END
FROM unnest($1::text[]) WITH ORDINALITY AS t (number, n)
ORDER BY t.n
