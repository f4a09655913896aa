-- 0003: jobs, the lanes they wait in, the claims and sessions that run them.
--
-- A job's row is written when it is enqueued and when an attempt ends. What waits has a narrow row in a lane, which the
-- claim deletes; a claim is one row, whatever it took. See docs/decisions/009-jobs.md.

-- One row per worker: the only thing that is renewed.
CREATE TABLE {schema}.session (
    id         uuid        NOT NULL PRIMARY KEY,
    owner      text        NOT NULL,
    token      bigint      NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ttl_ms     bigint      NOT NULL,
    draining   boolean     NOT NULL DEFAULT false,
    about      text        NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- Every job that may still want something of somebody: waiting, running, dead and uncertain ones. What has a fixed
-- width stands first: such rows are smaller, and read faster.
CREATE TABLE {schema}.job (
    -- The token of the last attempt that ended. A job runs under a claim with a larger one.
    token        bigint      NOT NULL,
    enqueued_at  timestamptz NOT NULL,
    run_at       timestamptz NOT NULL,
    attempt      integer     NOT NULL,
    lost         integer     NOT NULL,
    id           uuid        NOT NULL,
    priority     smallint    NOT NULL,
    namespace    text        COLLATE "C" NOT NULL,
    kind         text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    -- scheduled, ready, retrying, dead or uncertain. That it runs is not written here.
    state        text        NOT NULL,
    -- NULL: application/json, which nearly all are.
    content_type text,
    payload      bytea       NOT NULL,
    -- What was said about the job and is not the default, as JSON; nothing in SQL looks into it.
    spec         text,
    -- What SQL must know of that: its tags, as its lane spells them; whose jobs run one after the other; and the dedupe
    -- key that is free once it was started or has ended.
    route        text        COLLATE "C",
    ordering_key text        COLLATE "C",
    dedupe_key   text        COLLATE "C",
    -- The token under which its handler was started, of jobs that have that written down.
    begun        bigint,
    attempted_at timestamptz,
    finished_at  timestamptz,
    worker       text,
    error        text,
    result       bytea,
    result_type  text,
    result_size  bigint,
    -- The attempts before the last one, as JSON.
    past         text,
    -- It was running when somebody called it off, and why. Read under the lock of the row, unlike job_cancel.
    called_off   text,
    PRIMARY KEY (namespace, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05
);

-- Those that wait for a person.
CREATE INDEX job_wanted ON {schema}.job (namespace, state, id) WHERE state IN ('dead', 'uncertain');

-- Jobs that are over: those that succeeded, and those that were cancelled. A row lies in the partition of the day after
-- which it may be forgotten, and goes with it.
CREATE TABLE {schema}.job_done (
    LIKE {schema}.job,
    forget_at    timestamptz NOT NULL
) PARTITION BY RANGE (forget_at);
CREATE INDEX job_done_of_id ON {schema}.job_done (namespace, id);
-- What is kept for longer than partitions are made ahead, and what found none.
CREATE TABLE {schema}.job_done_rest PARTITION OF {schema}.job_done DEFAULT;

-- The lanes: one row per job that is ready. A lane is known by a hash of its four names, which keeps the index small and
-- its comparisons cheap; the names decide where two lanes should ever share one. It is
-- hashtextextended(route, hashtextextended(kind, hashtextextended(queue, hashtextextended(namespace, 0)))).
CREATE TABLE {schema}.job_ready (
    run_at    timestamptz NOT NULL,
    -- The token and the place of the job's row.
    token     bigint      NOT NULL,
    lane      bigint      NOT NULL,
    id        uuid        NOT NULL,
    place     tid         NOT NULL,
    -- The priority, turned round: small goes first.
    rank      smallint    NOT NULL,
    -- Whether it is claimed by itself, because it has lost a process.
    alone     boolean     NOT NULL,
    namespace text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    kind      text        COLLATE "C" NOT NULL,
    -- Its tags; empty for a job that runs anywhere.
    route     text        COLLATE "C" NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX job_ready_lane ON {schema}.job_ready (lane, alone, rank, run_at, id);

-- One row per job that is not due yet.
CREATE TABLE {schema}.job_later (
    run_at    timestamptz NOT NULL,
    token     bigint      NOT NULL,
    id        uuid        NOT NULL,
    place     tid         NOT NULL,
    rank      smallint    NOT NULL,
    namespace text        COLLATE "C" NOT NULL,
    queue     text        COLLATE "C" NOT NULL,
    kind      text        COLLATE "C" NOT NULL,
    route     text        COLLATE "C" NOT NULL,
    -- Whose jobs run one after the other: once it is due, it goes where the others of its key wait.
    ordering_key text     COLLATE "C"
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX job_later_due ON {schema}.job_later (run_at, id);

-- One row per claim, whatever it took; gone when none of its jobs is left.
CREATE TABLE {schema}.job_claim (
    id         uuid        NOT NULL PRIMARY KEY,
    namespace  text        COLLATE "C" NOT NULL,
    session    uuid        NOT NULL,
    token      bigint      NOT NULL,
    claimed_at timestamptz NOT NULL,
    jobs       uuid[]      NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
-- Ids don't compress; trying costs more than the claim.
ALTER TABLE {schema}.job_claim ALTER COLUMN jobs SET STORAGE EXTERNAL;
CREATE INDEX job_claim_of_session ON {schema}.job_claim (session);

-- Running jobs that somebody has called off. Almost always empty.
CREATE TABLE {schema}.job_cancel (
    namespace text        COLLATE "C" NOT NULL,
    id        uuid        NOT NULL,
    asked_at  timestamptz NOT NULL,
    actor     text        NOT NULL,
    reason    text,
    PRIMARY KEY (namespace, id)
);

-- Jobs that are due and wait for an earlier one of the same ordering key.
CREATE TABLE {schema}.job_held (
    run_at       timestamptz NOT NULL,
    token        bigint      NOT NULL,
    id           uuid        NOT NULL,
    place        tid         NOT NULL,
    rank         smallint    NOT NULL,
    namespace    text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    kind         text        COLLATE "C" NOT NULL,
    route        text        COLLATE "C" NOT NULL,
    ordering_key text        COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX job_held_of_key ON {schema}.job_held (namespace, ordering_key, rank, run_at, id);

-- The one job of an ordering key that has been let through, until it has ended.
CREATE TABLE {schema}.job_gate (
    namespace    text        COLLATE "C" NOT NULL,
    ordering_key text        COLLATE "C" NOT NULL,
    id           uuid        NOT NULL,
    PRIMARY KEY (namespace, ordering_key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Ordering keys of which something has changed: a job has come, or the one that was let through has ended. Emptied by
-- whoever lets the next ones through.
CREATE TABLE {schema}.job_arrived (
    namespace    text        COLLATE "C" NOT NULL,
    ordering_key text        COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- One row: whoever has locked it lets jobs through.
CREATE TABLE {schema}.job_turn (
    taken_at timestamptz NOT NULL
);
INSERT INTO {schema}.job_turn (taken_at) VALUES (timestamptz 'epoch');

-- Keys under which a second enqueue finds the first one's job: idempotency keys, and dedupe keys.
CREATE TABLE {schema}.job_key (
    namespace   text        COLLATE "C" NOT NULL,
    -- idempotency or dedupe
    purpose     text        COLLATE "C" NOT NULL,
    key         text        COLLATE "C" NOT NULL,
    id          uuid        NOT NULL,
    fingerprint bytea,
    -- NULL: until its job is started, or has ended.
    expires_at  timestamptz,
    until_started boolean   NOT NULL,
    PRIMARY KEY (namespace, purpose, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- What queues are set to. A queue without a row has the defaults.
CREATE TABLE {schema}.job_queue (
    namespace    text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text,
    PRIMARY KEY (namespace, queue)
);

-- Makes partitions of the coming days, some at a time, and drops those whose day has passed. It runs as the owner, because nobody
-- else may create or drop; it takes no argument, and waits for nobody longer than a moment.
CREATE FUNCTION {schema}.rotate_jobs() RETURNS void
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
        END;
    END LOOP;
    FOR name IN
        SELECT c.relname
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '{schema}.job_done'::regclass AND c.relname ~ '^job_done_[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < today
    LOOP
        EXECUTE format('DROP TABLE {schema}.%I', name);
    END LOOP;
EXCEPTION
    -- Somebody reads the whole table: the next one does it.
    WHEN lock_not_available THEN NULL;
END
$$;

REVOKE ALL ON FUNCTION {schema}.rotate_jobs() FROM PUBLIC;
SELECT {schema}.rotate_jobs();

-- Enqueues a job, in the caller's transaction, from any language:
--     SELECT onceward.enqueue('default', 'mail.welcome', '{"user": 17}', '{"queue": "mail", "delay": "10m"}');
-- The same id, options and defaults as from the client; what it does not know of, it refuses. It runs with the rights of
-- its caller.
CREATE FUNCTION {schema}.enqueue(namespace text, kind text, payload bytea, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
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

-- The same for whoever has the payload as JSON.
CREATE FUNCTION {schema}.enqueue(namespace text, kind text, payload jsonb, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE sql VOLATILE SET search_path = pg_catalog AS $$
    SELECT {schema}.enqueue(namespace, kind, convert_to(payload::text, 'UTF8'), options)
$$;

-- A span as the programs write it, such as 1h30m or 250ms, in milliseconds.
CREATE FUNCTION {schema}.milliseconds(span text) RETURNS bigint
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

REVOKE ALL ON FUNCTION {schema}.enqueue(text, text, bytea, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION {schema}.enqueue(text, text, jsonb, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION {schema}.milliseconds(text) FROM PUBLIC;
