-- lease.leave: give a place among those who wait up.
-- ?1 namespace, ?2 key, ?3 session. By the primary key of the waiting.
DELETE FROM onceward_lease_waiter
WHERE namespace = ?1 AND key = ?2 AND session = ?3
