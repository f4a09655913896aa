-- run.continue: has runs go on as new whose journals say that their generation is over: other arguments, and another
-- journal in the place of that one.
--
-- $1 namespace[]  $2 run[]  $3 session[]  $4 token[]  $5 seq of the entry that says so[]  $6 arguments[]  $7 data of the first
--   entry of the new journal[]; of one run each, sorted by (namespace, run)
-- $8 run (its place in the arrays, from 1)[]  $9 seq[]  $10 at[]  $11 position[]  $12 op[]  $13 phase[]  $14 name[]  $15 data[];
--   of one entry of a new journal each
-- Rows: n (the place of a run in the arrays), of those that have gone on, by this send or an earlier one.
-- Whoever sends it has taken the run up after the entry was written, so that nothing of the old journal is under way.
-- Entries of both have the same numbers: those that stay are written over, the others go.
-- Indexes: session_pkey, job_pkey, run_journal_pkey, run_inbox_pkey.

{bound}WITH {held}, asked AS MATERIALIZED (
    SELECT a.*,
           EXISTS (SELECT FROM {schema}.run_journal e
                   WHERE e.namespace = a.namespace AND e.run = a.run AND e.seq = 0
                     AND e.op = 'continue' AND e.position = '' AND e.data = a.begins) AS done
    FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[], $5::integer[], $6::bytea[], $7::bytea[]) WITH ORDINALITY
             AS a (namespace, run, session, token, seq, args, begins, n)
), turned AS (
    UPDATE {schema}.job j
    SET payload = a.args
    FROM asked a
    JOIN alive h ON h.id = a.session
    WHERE j.namespace = a.namespace AND j.id = a.run AND j.token < a.token AND j.state NOT IN ('dead', 'uncertain')
      AND h.expires_at > {clock} AND NOT a.done
      AND EXISTS (SELECT FROM {schema}.run_journal e
                  WHERE e.namespace = a.namespace AND e.run = a.run AND e.seq = a.seq
                    AND e.op = 'continue' AND e.position <> '' AND e.phase = 'value')
    RETURNING a.n, j.namespace, j.id AS run
), gone AS (
    DELETE FROM {schema}.run_journal e
    USING turned t
    WHERE e.namespace = t.namespace AND e.run = t.run
      AND e.seq >= (SELECT count(*) FROM unnest($8::integer[]) AS w (of) WHERE w.of = t.n)
), written AS (
    INSERT INTO {schema}.run_journal (namespace, run, seq, at, token, position, op, phase, name, data)
    SELECT t.namespace, t.run, e.seq, e.at, ($4::bigint[])[e.of], e.position, e.op, e.phase, e.name, e.data
    FROM turned t
    JOIN unnest($8::integer[], $9::integer[], $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::text[],
                $15::bytea[]) AS e (of, seq, at, position, op, phase, name, data) ON e.of = t.n
    ON CONFLICT (namespace, run, seq) DO UPDATE
    SET at = excluded.at, token = excluded.token, position = excluded.position, op = excluded.op,
        phase = excluded.phase, name = excluded.name, data = excluded.data
), over AS (
    -- What a step has committed is of no place in the new journal.
    DELETE FROM {schema}.run_inbox i
    USING turned t
    WHERE i.namespace = t.namespace AND i.run = t.run AND i.word = 'step'
)
SELECT t.n FROM turned t
UNION ALL
SELECT a.n
FROM asked a
JOIN alive h ON h.id = a.session AND h.expires_at > {clock}
JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.run AND j.token < a.token
                   AND j.state NOT IN ('dead', 'uncertain')
WHERE a.done
