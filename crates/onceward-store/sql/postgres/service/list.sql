-- service.list: the services of a namespace, by name.
--
-- $1 namespace
-- Rows: name, version, setting.
-- Index: service_pkey (namespace, name).

SELECT s.name, s.version, s.setting
FROM {schema}.service s
WHERE s.namespace = $1::text
ORDER BY s.name
