-- history.list: the newest rows of one key's history, newest first.
--
-- $1 subject  $2 namespace  $3 key  $4 limit
-- Rows: event, token, actor, at, reason, claimed_at, claimed_by. The newest of a once may stand in its own row still.
-- Indexes: history_of_key (subject, namespace, key, id); once_pkey.

SELECT r.event, r.token, r.actor, r.at, r.reason, r.claimed_at, r.claimed_by
FROM (
    SELECT 9223372036854775807 AS id, CASE o.state WHEN 'released' THEN 'not_started' ELSE o.state END AS event, o.token,
           o.owner AS actor, o.finished_at AS at, o.reason, o.claimed_at, NULL::text AS claimed_by
    FROM {schema}.once o
    WHERE $1::text = 'once' AND o.namespace = $2::text AND o.key = $3::text AND o.untold
    UNION ALL
    (SELECT h.id, h.event, h.token, h.actor, h.at, h.reason, h.claimed_at, h.claimed_by
     FROM {schema}.history h
     WHERE h.subject = $1::text AND h.namespace = $2::text AND h.key = $3::text
     ORDER BY h.id DESC
     LIMIT $4::bigint)
) r
ORDER BY r.id DESC
LIMIT $4::bigint
