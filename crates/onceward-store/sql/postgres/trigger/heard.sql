-- trigger.heard: what the triggers of a namespace have heard, in about the order in which it was written down.
--
-- $1 namespace  $2 not what these have heard[]  $3 limit
-- Rows: whether any of its triggers listens, then number, trigger, job, token, at, state, kind, queue, spec, error, body; one
-- row of NULLs but for the first if nothing was heard.
-- Index: trigger_heard_pkey (namespace, number).

SELECT w.listening, h.number, h.trigger, h.job, h.token, h.at, h.state, h.kind, h.queue, h.spec, h.error, h.body
FROM (SELECT EXISTS (SELECT FROM {schema}.trigger_watch w WHERE w.namespace = $1::text) AS listening) w
LEFT JOIN (
    SELECT h.*
    FROM {schema}.trigger_heard h
    WHERE h.namespace = $1::text AND h.trigger <> ALL ($2::text[])
    ORDER BY h.number
    LIMIT $3::bigint
) h ON true
ORDER BY h.number
