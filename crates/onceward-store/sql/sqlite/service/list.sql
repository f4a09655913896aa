-- service.list: the services of a namespace, by name. ?1 namespace. By the primary key.
SELECT name, version, setting FROM onceward_service WHERE namespace = ?1 ORDER BY name
