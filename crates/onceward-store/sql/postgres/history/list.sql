-- history.list: the newest rows of one key's history, newest first.
--
-- $1 subject  $2 namespace  $3 key  $4 limit
-- Rows: event, token, actor, at, reason, claimed_at, claimed_by.
-- Index: history_of_key (subject, namespace, key, id).

SELECT h.event, h.token, h.actor, h.at, h.reason, h.claimed_at, h.claimed_by
FROM {schema}.history h
WHERE h.subject = $1::text AND h.namespace = $2::text AND h.key = $3::text
ORDER BY h.id DESC
LIMIT $4::bigint
