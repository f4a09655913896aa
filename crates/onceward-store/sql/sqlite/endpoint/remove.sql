-- endpoint.remove: ?1 namespace, ?2 name, ?3 version. By the primary key. What is told of it: endpoint/write, step told.
DELETE FROM onceward_endpoint WHERE namespace = ?1 AND name = ?2 AND version = ?3
