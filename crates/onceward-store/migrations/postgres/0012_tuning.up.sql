-- 0012: what a queue is tuned by, wake-ups for who enqueues by SQL, keys of uncertain jobs, and partitions that two make at
-- the same time. See docs/decisions/022-ageing.md.

-- NULL where nothing is said: how much waiting counts as one priority, how long jobs are kept that say nothing, and how
-- long dead ones are kept.
ALTER TABLE {schema}.job_queue
    ADD COLUMN ageing_us      bigint,
    ADD COLUMN retain_us      bigint,
    ADD COLUMN retain_dead_us bigint,
    ADD COLUMN tuned_at       timestamptz,
    ADD COLUMN tuned_by       text;

-- Makes partitions of the coming days, some at a time, and drops those whose day has passed. It runs as the owner, because nobody
-- else may create or drop; it takes no argument, and waits for nobody longer than a moment. What somebody else is just
-- making or dropping is left to him.
CREATE OR REPLACE FUNCTION {schema}.rotate_jobs() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    today date := ({clock} AT TIME ZONE 'UTC')::date;
    day date;
    name text;
BEGIN
    FOR day IN
        SELECT today + n
        FROM generate_series(0, 33) n
        WHERE NOT EXISTS (SELECT FROM pg_class c
                          WHERE c.relnamespace = '{schema}'::regnamespace
                            AND c.relname = 'job_done_' || to_char(today + n, 'YYYYMMDD'))
        ORDER BY n
        LIMIT 10
    LOOP
        name := 'job_done_' || to_char(day, 'YYYYMMDD');
        BEGIN
            EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.job_done INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE {schema}.job_done ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
                           name, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
        EXCEPTION
            -- Rows of that day lie in the rest already, and are forgotten there.
            WHEN check_violation THEN NULL;
            WHEN duplicate_table OR unique_violation THEN NULL;
        END;
    END LOOP;
    FOR name IN
        SELECT c.relname
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '{schema}.job_done'::regclass AND c.relname ~ '^job_done_[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < today
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS {schema}.%I', name);
    END LOOP;
EXCEPTION
    -- Somebody reads the whole table: the next one does it.
    WHEN lock_not_available THEN NULL;
END
$$;

-- Takes a key for a job, unless somebody has it.
CREATE OR REPLACE FUNCTION {schema}.take_job_key(namespace text, purpose text, key text, id uuid, fingerprint bytea,
                                      expires_at timestamptz, until_started boolean, at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE {schema}.job_key k
    SET id = take_job_key.id, fingerprint = take_job_key.fingerprint, expires_at = take_job_key.expires_at,
        until_started = take_job_key.until_started
    WHERE k.namespace = take_job_key.namespace AND k.purpose = take_job_key.purpose AND k.key = take_job_key.key
      AND k.expires_at <= at
      -- An idempotency key lasts at least as long as its job: an uncertain one until somebody has said how it was.
      AND (k.purpose = 'dedupe'
           OR NOT EXISTS (SELECT FROM {schema}.job j
                          WHERE j.namespace = k.namespace AND j.id = k.id AND j.state <> 'dead'));
    IF FOUND THEN
        RETURN true;
    END IF;
    INSERT INTO {schema}.job_key (namespace, purpose, key, id, fingerprint, expires_at, until_started)
    VALUES (take_job_key.namespace, take_job_key.purpose, take_job_key.key, take_job_key.id, take_job_key.fingerprint,
            take_job_key.expires_at, take_job_key.until_started)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- Enqueues a job, in the caller's transaction, from any language:
--     SELECT onceward.enqueue('default', 'mail.welcome', '{"user": 17}', '{"queue": "mail", "delay": "10m"}');
-- The same options, checks and defaults as from the client; what it does not know of, it refuses. It runs with the rights
-- of its caller, and waits for another open transaction with the same key as long as one by enqueue_in does.
CREATE OR REPLACE FUNCTION {schema}.enqueue(namespace text, kind text, payload bytea, options jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog SET lock_timeout = '40ms' AS $$
<<given>>
DECLARE
    known text[] := ARRAY['id', 'queue', 'priority', 'delay', 'run_at', 'max_attempts', 'timeout', 'deadline', 'retry',
                          'idempotency_key', 'key_ttl', 'dedupe_key', 'dedupe_scope', 'on_conflict', 'ordering_key',
                          'tags', 'metadata', 'trace', 'at_most_once', 'retain', 'content_type', 'notify'];
    unknown text;
    at timestamptz := {clock};
    id_given text;
    job_id uuid;
    queue text;
    priority integer;
    delay_ms bigint;
    run_at timestamptz;
    due timestamptz;
    attempts integer;
    timeout_ms bigint;
    deadline timestamptz;
    retry text;
    at_most_once boolean;
    notify boolean;
    retain_ms bigint;
    key text;
    key_ttl_ms bigint;
    dedupe_key text;
    dedupe_scope text;
    on_conflict text;
    window_ms bigint;
    until_started boolean;
    ordering_key text;
    route text;
    metadata text;
    trace text;
    content_type text;
    print bytea;
    spec json;
    held record;
    place tid;
BEGIN
    PERFORM {schema}.job_name(coalesce(namespace, ''), 'a namespace', 128, 'OW102'),
            {schema}.job_name(coalesce(kind, ''), 'a kind', 128, 'OW117');
    IF payload IS NULL OR octet_length(payload) > 1048576 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW119',
            MESSAGE = format('a payload has at most 1048576 bytes, this one has %s',
                             coalesce(octet_length(payload)::text, 'none')),
            HINT = 'It is never NULL. What is larger is kept elsewhere, and the payload says where.';
    END IF;
    IF options IS NULL OR jsonb_typeof(options) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW128', MESSAGE = 'the options of a job are a JSON object, such as {}';
    END IF;
    SELECT o INTO unknown FROM jsonb_object_keys(options) o WHERE o <> ALL (known) LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'OW128',
            MESSAGE = format('"%s" is not an option of a job: say one of %s', unknown, array_to_string(known, ', '));
    END IF;

    -- What was said, each with the checks of New::check and the code of whatever is refused there.
    id_given := {schema}.job_option(options, 'id', 'a text', 'OW126');
    IF id_given !~ '^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW126',
            MESSAGE = format('"%s" is not the id of a job: draw a UUID of version 7', left(id_given, 40));
    END IF;
    queue := coalesce({schema}.job_name({schema}.job_option(options, 'queue', 'a text', 'OW118'), 'a queue', 128,
                                        'OW118'), 'default');
    priority := coalesce({schema}.job_option(options, 'priority', 'a whole number', 'OW120')::integer, 0);
    IF priority NOT BETWEEN -1000 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW120',
            MESSAGE = format('a priority lies between -1000 and 1000, this one is %s', priority);
    END IF;
    attempts := coalesce({schema}.job_option(options, 'max_attempts', 'a whole number', 'OW121')::integer, 20);
    IF attempts NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW121',
            MESSAGE = format('a job has between 1 and 1000 attempts, not %s', attempts);
    END IF;
    timeout_ms := coalesce({schema}.milliseconds({schema}.job_option(options, 'timeout', 'a text', 'OW105')), 900000);
    IF timeout_ms NOT BETWEEN 10 AND 604800000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW124',
            MESSAGE = format('a time-out lies between 10ms and 7d, this one is %s', options ->> 'timeout');
    END IF;
    IF kind = 'http' AND timeout_ms > 600000 AND timeout_ms <> 900000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW124',
            MESSAGE = format('an HTTP request has at most 10m, not %s', options ->> 'timeout');
    END IF;
    retain_ms := coalesce({schema}.milliseconds({schema}.job_option(options, 'retain', 'a text', 'OW105')), 604800000);
    IF retain_ms > 316224000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW109',
            MESSAGE = format('a job is kept for at most 3660d, not %s', options ->> 'retain');
    END IF;
    retry := {schema}.job_retry({schema}.job_option(options, 'retry', 'a text', 'OW123'));
    at_most_once := {schema}.job_option(options, 'at_most_once', 'true or false', 'OW128')::boolean;
    notify := {schema}.job_option(options, 'notify', 'true or false', 'OW128')::boolean;

    delay_ms := {schema}.milliseconds({schema}.job_option(options, 'delay', 'a text', 'OW105'));
    run_at := {schema}.job_time({schema}.job_option(options, 'run_at', 'a text', 'OW122'));
    deadline := {schema}.job_time({schema}.job_option(options, 'deadline', 'a text', 'OW122'));
    IF deadline <= run_at THEN
        RAISE EXCEPTION USING ERRCODE = 'OW122', MESSAGE = 'the deadline of a job comes after the time it is due';
    END IF;
    key := {schema}.job_name({schema}.job_option(options, 'idempotency_key', 'a text', 'OW101'), 'a key', 255, 'OW101');
    key_ttl_ms := {schema}.milliseconds({schema}.job_option(options, 'key_ttl', 'a text', 'OW105'));
    IF key IS NULL AND key_ttl_ms IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'OW101',
            MESSAGE = '"key_ttl" is said of an "idempotency_key", and there is none';
    END IF;
    dedupe_key := {schema}.job_name({schema}.job_option(options, 'dedupe_key', 'a text', 'OW101'), 'a key', 255,
                                    'OW101');
    dedupe_scope := {schema}.job_option(options, 'dedupe_scope', 'a text', 'OW128');
    on_conflict := {schema}.job_option(options, 'on_conflict', 'a text', 'OW128');
    IF dedupe_key IS NULL AND (dedupe_scope IS NOT NULL OR on_conflict IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'OW101',
            MESSAGE = '"dedupe_scope" and "on_conflict" are said of a "dedupe_key", and there is none';
    END IF;
    IF dedupe_scope NOT IN ('until_started', 'until_done') AND dedupe_scope !~ '^window\([^()]+\)$' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW128',
            MESSAGE = format('"%s" is no "dedupe_scope": say until_started, until_done, or window(1h) for an hour',
                             left(dedupe_scope, 40));
    END IF;
    IF on_conflict NOT IN ('existing', 'replace', 'push_out') THEN
        RAISE EXCEPTION USING ERRCODE = 'OW128',
            MESSAGE = format('"%s" is no "on_conflict": say existing, replace or push_out', left(on_conflict, 40));
    END IF;
    window_ms := {schema}.milliseconds(substring(dedupe_scope FROM '^window\((.*)\)$'));
    IF greatest(delay_ms, key_ttl_ms, window_ms) > 316224000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'OW122',
            MESSAGE = 'a delay, the life of an idempotency key and a window have at most 3660d';
    END IF;
    ordering_key := {schema}.job_name({schema}.job_option(options, 'ordering_key', 'a text', 'OW101'), 'a key', 255,
                                      'OW101');
    IF jsonb_typeof(options -> 'tags') <> 'null' THEN
        IF jsonb_typeof(options -> 'tags') <> 'array'
            OR jsonb_path_exists(options, 'strict $.tags[*] ? (@.type() != "string")') THEN
            RAISE EXCEPTION USING ERRCODE = 'OW125', MESSAGE = 'the option "tags" of a job is an array of texts';
        END IF;
        IF jsonb_array_length(options -> 'tags') > 16 THEN
            RAISE EXCEPTION USING ERRCODE = 'OW125',
                MESSAGE = format('a job has at most 16 tags, not %s', jsonb_array_length(options -> 'tags'));
        END IF;
        SELECT string_agg(DISTINCT {schema}.job_name(t, 'a tag', 64, 'OW125') COLLATE "C", chr(10)
                          ORDER BY {schema}.job_name(t, 'a tag', 64, 'OW125') COLLATE "C") INTO route
        FROM jsonb_array_elements_text(options -> 'tags') t;
    END IF;
    IF jsonb_typeof(options -> 'metadata') <> 'null' THEN
        metadata := (options -> 'metadata')::text;
    END IF;
    trace := {schema}.job_option(options, 'trace', 'a text', 'OW108');
    content_type := coalesce({schema}.job_option(options, 'content_type', 'a text', 'OW108'), 'application/json');
    IF octet_length(metadata) > 16384 OR octet_length(trace) > 512 OR octet_length(content_type) > 255
        OR content_type ~ '[\u0001-\u001F\u007F-\u009F]' THEN
        RAISE EXCEPTION USING ERRCODE = 'OW108',
            MESSAGE = 'metadata has at most 16384 bytes, a trace 512, and a content type is a line of at most 255';
    END IF;

    -- As Spec::to_text writes it: only what is not the default.
    due := coalesce(at + delay_ms * interval '1 millisecond', run_at, at);
    until_started := coalesce(dedupe_scope = 'until_started', false);
    spec := json_strip_nulls(json_build_object(
        'max_attempts', nullif(attempts, 20), 'timeout_ms', nullif(timeout_ms, 900000),
        'deadline_us', round(extract(epoch FROM deadline) * 1000000)::bigint,
        'retry', nullif(retry, 'exponential 2000ms max 900000ms jitter 0.200'),
        'at_most_once', nullif(at_most_once, false),
        'retain_ms', nullif(retain_ms, 604800000), 'ordering_key', ordering_key,
        'tags', CASE WHEN route IS NOT NULL THEN (options -> 'tags')::json END, 'metadata', metadata, 'trace', trace,
        'until_started', nullif(until_started, false), 'dedupe_key', CASE WHEN window_ms IS NULL THEN dedupe_key END));
    -- Ids say when they were drawn (version 7), so that they lie beside each other.
    job_id := coalesce(id_given::uuid, encode(
        set_byte(overlay(uuid_send(gen_random_uuid())
                             PLACING substring(int8send((extract(epoch FROM at) * 1000)::bigint), 3) FROM 1 FOR 6),
                 6, 112 + get_byte(uuid_send(gen_random_uuid()), 6) % 16), 'hex')::uuid);
    -- Only what somebody has drawn himself can have been sent before.
    IF id_given IS NOT NULL
        AND (EXISTS (SELECT FROM {schema}.job j WHERE j.namespace = enqueue.namespace AND j.id = job_id)
             OR EXISTS (SELECT FROM {schema}.job_done j WHERE j.namespace = enqueue.namespace AND j.id = job_id)) THEN
        RETURN job_id;
    END IF;
    IF key IS NOT NULL THEN
        -- As the client does it: kind, content type and payload, a NUL between them.
        print := sha256(convert_to(kind, 'UTF8') || '\x00'::bytea || convert_to(content_type, 'UTF8') || '\x00'::bytea
                        || payload);
    END IF;
    FOR round IN 1..5 LOOP
        EXIT WHEN key IS NULL AND dedupe_key IS NULL;
        SELECT k.id, coalesce(k.fingerprint = print, false) AS same INTO held
        FROM {schema}.job_key k
        WHERE k.namespace = enqueue.namespace AND k.purpose = 'idempotency' AND k.key = given.key
          AND (k.expires_at > at
               OR EXISTS (SELECT FROM {schema}.job j
                          WHERE j.namespace = k.namespace AND j.id = k.id AND j.state <> 'dead'));
        IF FOUND AND (held.same OR held.id = job_id) THEN
            RETURN held.id;
        ELSIF FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'OW702',
                MESSAGE = format('the key "%s" belongs to job %s, which is of another kind or has another payload',
                                 given.key, held.id);
        END IF;
        SELECT k.id INTO held
        FROM {schema}.job_key k
        WHERE k.namespace = enqueue.namespace AND k.purpose = 'dedupe' AND k.key = given.dedupe_key
          AND (k.expires_at IS NULL OR k.expires_at > at);
        IF FOUND THEN
            IF held.id <> job_id AND on_conflict IN ('replace', 'push_out') THEN
                PERFORM {schema}.replace_job(namespace, held.id, payload, nullif(content_type, 'application/json'),
                                             spec, route, CASE WHEN on_conflict = 'push_out' THEN due END, at);
            END IF;
            RETURN held.id;
        END IF;
        -- In the order in which everybody takes them.
        IF dedupe_key IS NULL
            OR {schema}.take_job_key(namespace, 'dedupe', dedupe_key, job_id, NULL,
                                     at + window_ms * interval '1 millisecond', until_started, at) THEN
            EXIT WHEN key IS NULL
                OR {schema}.take_job_key(namespace, 'idempotency', key, job_id, print,
                                         at + coalesce(key_ttl_ms, 2592000000) * interval '1 millisecond', false, at);
            DELETE FROM {schema}.job_key k
            WHERE k.namespace = enqueue.namespace AND k.purpose = 'dedupe' AND k.key = given.dedupe_key
              AND k.id = job_id;
        END IF;
        -- Somebody was first. What he has committed is seen now, unless this transaction began before that.
        IF round = 5 THEN
            RAISE EXCEPTION USING ERRCODE = 'OW308',
                MESSAGE = 'the key was taken by a transaction that this one can''t see: begin a new one';
        END IF;
    END LOOP;

    INSERT INTO {schema}.job AS j (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                                   payload, content_type, spec, route, ordering_key, dedupe_key)
    VALUES (enqueue.namespace, job_id, enqueue.kind, given.queue, given.priority,
            CASE WHEN due > at THEN 'scheduled' ELSE 'ready' END, 0, 0, 0, at, due, enqueue.payload,
            nullif(given.content_type, 'application/json'), nullif(spec::text, '{}'), given.route, given.ordering_key,
            CASE WHEN window_ms IS NULL THEN given.dedupe_key END)
    ON CONFLICT DO NOTHING
    RETURNING j.ctid INTO place;
    IF place IS NULL THEN
        RETURN job_id;
    END IF;
    IF due > at THEN
        INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
        VALUES (enqueue.namespace, given.queue, enqueue.kind, coalesce(given.route, ''), - given.priority, due,
                job_id, 0, given.place, given.ordering_key);
    ELSIF ordering_key IS NOT NULL THEN
        INSERT INTO {schema}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
        VALUES (enqueue.namespace, given.queue, enqueue.kind, coalesce(given.route, ''), - given.priority, due,
                job_id, 0, given.place, given.ordering_key);
        INSERT INTO {schema}.job_arrived (namespace, ordering_key) VALUES (enqueue.namespace, given.ordering_key);
    ELSE
        INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
        VALUES (hashtextextended(coalesce(given.route, ''), hashtextextended(enqueue.kind,
                    hashtextextended(given.queue, hashtextextended(enqueue.namespace, 0)))),
                enqueue.namespace, given.queue, enqueue.kind, coalesce(given.route, ''), false,
                - given.priority, due, job_id, 0, given.place);
    END IF;
    IF notify AND due <= at THEN
        -- The commit waits for all others that notify, in the whole cluster. So only where it is asked for.
        PERFORM pg_notify('onceward:' || (parse_ident('{schema}'))[1],
                          enqueue.namespace || chr(31) || chr(31) || given.queue);
    END IF;
    RETURN job_id;
END
$$;
