-- trigger.remove, by the primary key. What it listens to goes with trigger.write, its step unlistened.
--
-- gone     ?1 namespace, ?2 name, ?3 version.
-- absent   ?1 namespace, ?2 name. Whether it is not there.
-- unheard  ?1 namespace, ?2 name. What it has heard; there is little of it.

-- step: gone
DELETE FROM onceward_trigger WHERE namespace = ?1 AND name = ?2 AND version = ?3

-- step: absent
SELECT NOT EXISTS (SELECT 1 FROM onceward_trigger WHERE namespace = ?1 AND name = ?2)

-- step: unheard
DELETE FROM onceward_trigger_heard WHERE namespace = ?1 AND trigger = ?2
