DROP FUNCTION {schema}.enqueue(text, text, text, jsonb);
-- Enqueues a job, in the caller's transaction, from any language:
--     SELECT onceward.enqueue('default', 'mail.welcome', '{"user": 17}', '{"queue": "mail", "delay": "10m"}');
-- The same id, options and defaults as from the client; what it does not know of, it refuses. It runs with the rights of
-- its caller.
CREATE OR REPLACE FUNCTION {schema}.enqueue(namespace text, kind text, payload bytea, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog SET lock_timeout = '40ms' AS $$
<<given>>
DECLARE
    known text[] := ARRAY['id', 'queue', 'priority', 'delay', 'run_at', 'max_attempts', 'timeout', 'idempotency_key',
                          'at_most_once', 'retry', 'tags', 'ordering_key', 'content_type', 'retain'];
    unknown text;
    job_id uuid;
    queue text := coalesce(options ->> 'queue', 'default');
    priority integer;
    at timestamptz := {clock};
    due timestamptz;
    attempts integer;
    timeout_ms bigint;
    retain_ms bigint;
    route text;
    key text := options ->> 'idempotency_key';
    print bytea;
    spec jsonb := '{}';
    first record;
    place tid;
BEGIN
    IF namespace IS NULL OR namespace = '' OR octet_length(namespace) > 128 OR namespace ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW102', MESSAGE = 'a namespace has 1 to 128 bytes and no control characters';
    END IF;
    IF kind IS NULL OR kind = '' OR octet_length(kind) > 128 OR kind ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW117', MESSAGE = 'a kind has 1 to 128 bytes and no control characters';
    END IF;
    IF queue = '' OR octet_length(queue) > 128 OR queue ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW118', MESSAGE = 'a queue has 1 to 128 bytes and no control characters';
    END IF;
    IF payload IS NULL OR octet_length(payload) > 1048576 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW119', MESSAGE = 'a payload has at most 1048576 bytes';
    END IF;
    IF options IS NULL OR jsonb_typeof(options) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW108', MESSAGE = 'the options of a job are a JSON object';
    END IF;
    SELECT o INTO unknown FROM jsonb_object_keys(options) o WHERE o <> ALL (known) LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'OW108', MESSAGE = format('"%s" is not an option of a job', unknown),
            HINT = format('The options are %s.', array_to_string(known, ', '));
    END IF;
    BEGIN
        priority := coalesce((options ->> 'priority')::integer, 0);
        attempts := (options ->> 'max_attempts')::integer;
        timeout_ms := {schema}.milliseconds(options ->> 'timeout');
        retain_ms := {schema}.milliseconds(options ->> 'retain');
        due := coalesce(at + {schema}.milliseconds(options ->> 'delay') * interval '1 millisecond',
                        (options ->> 'run_at')::timestamptz, at);
        job_id := (options ->> 'id')::uuid;
    EXCEPTION
        WHEN data_exception THEN
            RAISE EXCEPTION USING ERRCODE = 'OW122', MESSAGE = 'an option of the job can''t be read', DETAIL = SQLERRM;
    END;
    IF priority NOT BETWEEN -1000 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW120', MESSAGE = 'a priority lies between -1000 and 1000';
    END IF;
    IF attempts NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW121', MESSAGE = 'a job has between 1 and 1000 attempts';
    END IF;
    IF timeout_ms NOT BETWEEN 10 AND 604800000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW124', MESSAGE = 'a time-out lies between 10ms and 7d';
    END IF;
    IF retain_ms > 316224000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW109', MESSAGE = 'a job is kept for at most 3660d';
    END IF;
    IF due > at + interval '3660 days' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW122', MESSAGE = 'a job is due within 3660 days';
    END IF;
    IF options ? 'retry' AND NOT coalesce(options ->> 'retry' ~ '^(fixed|linear|exponential) +[0-9]', false) THEN
        RAISE EXCEPTION USING ERRCODE = 'OW123', MESSAGE = 'a retry policy is written like "exponential 2s max 15m"';
    END IF;
    IF options ? 'tags' THEN
        IF jsonb_typeof(options -> 'tags') <> 'array' OR jsonb_array_length(options -> 'tags') > 16
            OR EXISTS (SELECT FROM jsonb_array_elements_text(options -> 'tags') t
                       WHERE t IS NULL OR t = '' OR octet_length(t) > 64 OR t ~ '[[:cntrl:]]') THEN
            RAISE EXCEPTION USING ERRCODE = 'OW125', MESSAGE = 'tags are an array of at most 16 texts of 1 to 64 bytes';
        END IF;
        SELECT string_agg(DISTINCT t COLLATE "C", chr(10) ORDER BY t COLLATE "C") INTO route
        FROM jsonb_array_elements_text(options -> 'tags') t;
    END IF;
    IF key = '' OR octet_length(key) > 255 OR key ~ '[[:cntrl:]]' OR options ->> 'ordering_key' = ''
        OR octet_length(options ->> 'ordering_key') > 255 OR options ->> 'ordering_key' ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW101', MESSAGE = 'a key has 1 to 255 bytes and no control characters';
    END IF;
    -- What Spec::to_text writes: only what is not the default.
    spec := jsonb_strip_nulls(jsonb_build_object(
        'max_attempts', nullif(attempts, 20), 'timeout_ms', nullif(timeout_ms, 900000), 'retry', options ->> 'retry',
        'at_most_once', nullif(coalesce((options ->> 'at_most_once')::boolean, false), false),
        'retain_ms', nullif(retain_ms, 604800000), 'ordering_key', options ->> 'ordering_key',
        'tags', CASE WHEN route IS NOT NULL THEN options -> 'tags' END));
    -- Ids say when they were drawn (version 7), so that they lie beside each other.
    job_id := coalesce(job_id, encode(
        set_byte(overlay(uuid_send(gen_random_uuid())
                             PLACING substr(int8send((extract(epoch FROM at) * 1000)::bigint), 3) FROM 1 FOR 6),
                 6, 112 + get_byte(uuid_send(gen_random_uuid()), 6) % 16), 'hex')::uuid);
    IF key IS NOT NULL THEN
        -- As the client does it: kind, content type and payload, a NUL between them.
        print := sha256(convert_to(kind, 'UTF8') || '\x00'::bytea
                        || convert_to(coalesce(options ->> 'content_type', 'application/json'), 'UTF8')
                        || '\x00'::bytea || payload);
        UPDATE {schema}.job_key k
        SET id = job_id, fingerprint = print, expires_at = at + interval '30 days'
        WHERE k.namespace = enqueue.namespace AND k.purpose = 'idempotency' AND k.key = given.key
          AND k.expires_at <= at;
        IF NOT FOUND THEN
            INSERT INTO {schema}.job_key AS k (namespace, purpose, key, id, fingerprint, expires_at, until_started)
            VALUES (enqueue.namespace, 'idempotency', given.key, job_id, print, at + interval '30 days', false)
            ON CONFLICT DO NOTHING;
            IF NOT FOUND THEN
                SELECT k.id, k.fingerprint = print AS same INTO first
                FROM {schema}.job_key k
                WHERE k.namespace = enqueue.namespace AND k.purpose = 'idempotency' AND k.key = given.key;
                IF first.same THEN
                    RETURN first.id;
                END IF;
                RAISE EXCEPTION USING ERRCODE = 'OW702',
                    MESSAGE = format('the idempotency key "%s" was used before for another job', given.key);
            END IF;
        END IF;
    END IF;
    INSERT INTO {schema}.job AS j (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                                   payload, content_type, spec, route, ordering_key)
    VALUES (enqueue.namespace, job_id, enqueue.kind, given.queue, given.priority,
            CASE WHEN due > at THEN 'scheduled' ELSE 'ready' END, 0, 0, 0, at, due, enqueue.payload,
            nullif(options ->> 'content_type', 'application/json'), nullif(spec, '{}')::text, given.route,
            options ->> 'ordering_key')
    ON CONFLICT DO NOTHING
    RETURNING j.ctid INTO place;
    IF place IS NULL THEN
        RETURN job_id;
    END IF;
    IF due > at THEN
        INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
        VALUES (enqueue.namespace, given.queue, enqueue.kind, coalesce(given.route, ''), - given.priority, due,
                job_id, 0, given.place, options ->> 'ordering_key');
    ELSIF options ->> 'ordering_key' IS NOT NULL THEN
        INSERT INTO {schema}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
        VALUES (enqueue.namespace, given.queue, enqueue.kind, coalesce(given.route, ''), - given.priority, due,
                job_id, 0, given.place, options ->> 'ordering_key');
        INSERT INTO {schema}.job_arrived (namespace, ordering_key)
        VALUES (enqueue.namespace, options ->> 'ordering_key');
    ELSE
        INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
        VALUES (hashtextextended(coalesce(given.route, ''), hashtextextended(enqueue.kind,
                    hashtextextended(given.queue, hashtextextended(enqueue.namespace, 0)))),
                enqueue.namespace, given.queue, enqueue.kind, coalesce(given.route, ''), false,
                - given.priority, due, job_id, 0, given.place);
    END IF;
    RETURN job_id;
END
$$;

-- A span as the programs write it, such as 1h30m or 250ms, in milliseconds.
CREATE OR REPLACE FUNCTION {schema}.milliseconds(span text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
    IF span !~ '^([0-9]+(ms|s|m|h|d))+$' THEN
        RAISE EXCEPTION USING ERRCODE = '22007', MESSAGE = format('"%s" is not a span like 90s, 1h30m or 250ms', span);
    END IF;
    RETURN (SELECT sum(p[1]::bigint * CASE p[2] WHEN 'ms' THEN 1 WHEN 's' THEN 1000 WHEN 'm' THEN 60000
                                                WHEN 'h' THEN 3600000 ELSE 86400000 END)
            FROM regexp_matches(span, '([0-9]+)(ms|s|m|h|d)', 'g') p);
END
$$;

DROP FUNCTION {schema}.replace_job(text, uuid, bytea, text, json, text, timestamptz, timestamptz);
DROP FUNCTION {schema}.take_job_key(text, text, text, uuid, bytea, timestamptz, boolean, timestamptz);
DROP FUNCTION {schema}.job_option(jsonb, text, text, text);
DROP FUNCTION {schema}.job_name(text, text, integer, text);
DROP FUNCTION {schema}.job_retry(text);
DROP FUNCTION {schema}.job_time(text);
