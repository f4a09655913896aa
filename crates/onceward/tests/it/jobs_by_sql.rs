//! Jobs that are enqueued by the SQL function: the same rows, keys and refusals as from Rust.

use std::sync::Arc;
use std::time::Duration;

use crate::jobs_kit::{NOW, Number, until};
use onceward::jobs::{DedupeScope, Enqueue, OnConflict, State as JobState};
use onceward::worker::{Outcome, State};
use onceward::{Code, Onceward, Timestamp};
use serde_json::{Value, json};
use tokio_postgres::Client;

const HOUR: Duration = Duration::from_secs(3_600);

/// A schema, the client of Rust, and one of the driver.
struct Side {
    ow: Onceward,
    schema: crate::pg::Schema,
    sql: Client,
}

impl Side {
    async fn new() -> Self {
        let schema = crate::pg::Schema::migrated().await;
        let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
        Self { ow, sql: schema.client().await, schema }
    }

    fn job(&self, payload: &str) -> Enqueue {
        self.ow.enqueue_raw("mail", payload, "application/json")
    }

    /// Enqueues by SQL; the id, or the SQLSTATE and the message.
    async fn by_sql(&self, kind: &str, payload: &[u8], options: &str) -> Result<String, (String, String)> {
        let text =
            format!("SELECT {}.enqueue('default', $1, $2::bytea, $3::text::jsonb)::text", self.schema.name());
        let row = self.sql.query_one(&text, &[&kind, &payload, &options]).await;
        row.map(|row| row.get(0)).map_err(|error| {
            let error = error.as_db_error().unwrap();
            (error.code().code().to_owned(), error.message().to_owned())
        })
    }

    /// Everything that is there, except ids, tokens and times; those only as far as they are apart.
    async fn rows(&self) -> Value {
        self.ow.store().job_promote(100).await.unwrap();
        let text = ROWS.replace("{schema}", self.schema.name());
        let row = self.sql.query_one(&text, &[]).await.unwrap();
        serde_json::from_str(row.get(0)).unwrap()
    }

    async fn end(self) {
        self.ow.shutdown().await;
    }
}

const ROWS: &str = "
WITH lanes AS (
    SELECT 'ready' AS lane, to_jsonb(l) AS row, l.id, l.place, l.run_at FROM {schema}.job_ready l
    UNION ALL
    SELECT 'later', to_jsonb(l), l.id, l.place, l.run_at FROM {schema}.job_later l
    UNION ALL
    SELECT 'held', to_jsonb(l), l.id, l.place, l.run_at FROM {schema}.job_held l
), rows AS (
    SELECT jsonb_build_object(
        'job', to_jsonb(j) - '{id,token,enqueued_at,run_at,attempted_at,worker,begun,past}'::text[],
        'in', extract(epoch FROM j.run_at - j.enqueued_at)::bigint,
        'lanes', (SELECT jsonb_agg(l.row - '{id,token,place,run_at}'::text[] || jsonb_build_object(
                      'lane', l.lane, 'right', l.place = j.ctid AND l.run_at = j.run_at))
                  FROM lanes l WHERE l.id = j.id),
        'keys', (SELECT jsonb_agg(to_jsonb(k) - '{id,expires_at}'::text[] || jsonb_build_object(
                     'lasts', (k.expires_at - j.enqueued_at)::text) ORDER BY k.purpose)
                 FROM {schema}.job_key k WHERE k.id = j.id),
        'gates', (SELECT count(*) FROM {schema}.job_gate g WHERE g.id = j.id)) AS row
    FROM {schema}.job j
)
SELECT jsonb_build_object(
    'jobs', (SELECT jsonb_agg(r.row ORDER BY r.row::text) FROM rows r),
    'lanes', (SELECT count(*) FROM lanes), 'keys', (SELECT count(*) FROM {schema}.job_key),
    'arrived', (SELECT count(*) FROM {schema}.job_arrived))::text";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

type Said = (fn(Enqueue) -> Enqueue, &'static str);

/// What can be said of a job, in both languages.
fn said() -> Vec<Said> {
    vec![
        (|job| job, "{}"),
        (|job| job.queue("q ü").priority(-7), r#"{"queue": "q ü", "priority": -7, "delay": null}"#),
        (|job| job.delay(Duration::from_millis(5_400_250)), r#"{"delay": "1h 30m 250ms"}"#),
        (|job| job.run_at(at("2051-03-01T09:30:00.25Z")), r#"{"run_at": "2051-03-01T10:30:00.25+01:00"}"#),
        (
            |job| job.delay(HOUR).run_at(at("2051-03-01T00:00:00Z")),
            r#"{"delay": "1 hour", "run_at": "2051-03-01 00:00Z"}"#,
        ),
        (
            |job| job.max_attempts(3).timeout(Duration::from_secs(5)).deadline(at("2051-03-01T09:30:00Z")),
            r#"{"max_attempts": 3, "timeout": "5s", "deadline": "2051-03-01T09:30:00Z"}"#,
        ),
        (|job| job.max_attempts(20).timeout(HOUR / 4), r#"{"max_attempts": 20, "timeout": "15m"}"#),
        (|job| job.retry("fixed 3s jitter .25".parse().unwrap()), r#"{"retry": " fixed  3s jitter .25"}"#),
        (|job| job.retry("linear 20m".parse().unwrap()), r#"{"retry": "linear 20m"}"#),
        (
            |job| job.retry("exponential 250ms jitter 1 max 1h30m".parse().unwrap()),
            r#"{"retry": "exponential 250ms jitter 1 max 1h30m"}"#,
        ),
        (
            |job| job.retry("exponential 2s max 15m jitter 0.2".parse().unwrap()),
            r#"{"retry": "exponential 2s max 15m jitter 0.2"}"#,
        ),
        (|job| job.key("k"), r#"{"idempotency_key": "k"}"#),
        (|job| job.key("ä\"\\").key_ttl(HOUR), r#"{"idempotency_key": "ä\"\\", "key_ttl": "1h"}"#),
        (|job| job.dedupe("d", DedupeScope::UntilDone), r#"{"dedupe_key": "d"}"#),
        (
            |job| job.dedupe("d", DedupeScope::UntilDone).on_conflict(OnConflict::PushOut),
            r#"{"dedupe_key": "d", "dedupe_scope": "until_done", "on_conflict": "push_out"}"#,
        ),
        (
            |job| job.dedupe("d", DedupeScope::UntilStarted).on_conflict(OnConflict::Replace),
            r#"{"dedupe_key": "d", "dedupe_scope": "until_started", "on_conflict": "replace"}"#,
        ),
        (
            |job| job.dedupe("d", DedupeScope::Window(HOUR)).key("d"),
            r#"{"dedupe_key": "d", "dedupe_scope": "window(1h)", "idempotency_key": "d", "on_conflict": "existing"}"#,
        ),
        (|job| job.ordering_key("line \"1\""), r#"{"ordering_key": "line \"1\""}"#),
        (
            |job| job.ordering_key("line").delay(HOUR).tag("eu"),
            r#"{"ordering_key": "line", "delay": "1h", "tags": ["eu"]}"#,
        ),
        (
            |job| ["gpu", "Ö", "eu", "gpu"].into_iter().fold(job, Enqueue::tag),
            r#"{"tags": ["gpu", "Ö", "eu", "gpu"]}"#,
        ),
        (
            |job| job.metadata(&["x\u{1}\n\"é"]).trace("00-\t1-2-01"),
            r#"{"metadata": ["x\u0001\n\"é"], "trace": "00-\t1-2-01", "tags": []}"#,
        ),
        (
            |job| job.at_most_once().retain(Duration::ZERO),
            r#"{"at_most_once": true, "retain": "0s", "content_type": "application/json"}"#,
        ),
        (|job| job.retain(Duration::from_secs(604_800)), r#"{"at_most_once": false, "retain": "1w"}"#),
    ]
}

/// Column by column, in the table of jobs, where they wait, and in the table of keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_sql_enqueues_is_the_same_as_one_that_rust_enqueues() {
    let (rust, sql) = (Side::new().await, Side::new().await);
    let empty = |side: &Side| {
        let tables = ["job", "job_ready", "job_later", "job_held", "job_gate", "job_arrived", "job_key"];
        let tables = tables.map(|table| format!("{}.{table}", side.schema.name()));
        format!("TRUNCATE {}", tables.join(", "))
    };
    for (said, options) in said() {
        let created = said(rust.job("{\"n\":1}")).await.unwrap().created;
        assert!(created, "{options}");
        sql.by_sql("mail", b"{\"n\":1}", options).await.unwrap();
        let rows = sql.rows().await;
        assert_eq!(rows, rust.rows().await, "{options}");
        assert_eq!(rows["jobs"].as_array().unwrap().len(), 1, "{options}");
        for side in [&rust, &sql] {
            side.sql.batch_execute(&empty(side)).await.unwrap();
        }
    }
    // Bytes are bytes.
    for bytes in [&b""[..], &[0, 255, 0xed, 0xa0, 0x80]] {
        rust.ow.enqueue_raw("mail", bytes, "x/y; a=\"b\"").key(format!("{}", bytes.len())).await.unwrap();
        let options = json!({"content_type": "x/y; a=\"b\"", "idempotency_key": format!("{}", bytes.len())});
        sql.by_sql("mail", bytes, &options.to_string()).await.unwrap();
    }
    assert_eq!(sql.rows().await, rust.rows().await);
    rust.end().await;
    sql.end().await;
}

/// J9: what a newcomer by SQL makes of the job under its dedupe key is what one from Rust makes of it.
#[tokio::test(flavor = "multi_thread")]
async fn j9_a_newcomer_by_sql_does_what_one_from_rust_does() {
    let first: [fn(Enqueue) -> Enqueue; 5] = [
        |job| job,
        |job| job.delay(HOUR).tag("eu"),
        |job| job.ordering_key("line").max_attempts(9),
        // The one before it has the line.
        |job| job.ordering_key("taken").priority(5),
        |job| job.run_at(at("2051-03-01T00:00:00Z")).ordering_key("line"),
    ];
    let newcomers: [Said; 6] = [
        (|job| job, "{}"),
        (|job| job.on_conflict(OnConflict::PushOut), r#"{"on_conflict": "push_out"}"#),
        (
            |job| job.on_conflict(OnConflict::PushOut).delay(HOUR * 2),
            r#"{"on_conflict": "push_out", "delay": "2h"}"#,
        ),
        (|job| job.on_conflict(OnConflict::Replace), r#"{"on_conflict": "replace"}"#),
        (
            |job| job.on_conflict(OnConflict::Replace).delay(HOUR * 2).max_attempts(2).tag("us").priority(3),
            r#"{"on_conflict": "replace", "delay": "2h", "max_attempts": 2, "tags": ["us"], "priority": 3}"#,
        ),
        (
            |job| {
                job.on_conflict(OnConflict::Replace)
                    .ordering_key("other")
                    .key("new")
                    .metadata(&1)
                    .trace("t")
                    .at_most_once()
            },
            r#"{"on_conflict": "replace", "ordering_key": "other", "idempotency_key": "new", "metadata": 1,
                "trace": "t",
                "at_most_once": true}"#,
        ),
    ];
    let scopes = [DedupeScope::UntilDone, DedupeScope::UntilStarted, DedupeScope::Window(HOUR)];
    let (rust, sql) = (Side::new().await, Side::new().await);
    let mut number = 0;
    for first in first {
        for (newcomer, options) in newcomers {
            let scope = scopes[number % 3];
            number += 1;
            let key = format!("d{number}");
            for side in [&rust, &sql] {
                side.job("1").ordering_key("taken").await.unwrap();
                assert!(first(side.job("1").dedupe(&key, scope)).await.unwrap().created);
                side.ow.store().job_promote(100).await.unwrap();
            }
            let answer = newcomer(rust.job("22").dedupe(&key, scope)).await.unwrap();
            assert!(!answer.created);
            let mut options: Value = serde_json::from_str(options).unwrap();
            options["dedupe_key"] = json!(key);
            options["dedupe_scope"] = json!(["until_done", "until_started", "window(60m)"][(number - 1) % 3]);
            let id = sql.by_sql("mail", b"22", &options.to_string()).await.unwrap();
            assert!(!sql.ow.admin().job(id.parse().unwrap()).await.unwrap().state.is_final());
            assert_eq!(sql.rows().await, rust.rows().await, "{number}: {options}");
        }
    }
    rust.end().await;
    sql.end().await;
}

/// J9, J4: one that waits for its next attempt keeps it; one that runs or has ended stays what it is.
#[tokio::test(flavor = "multi_thread")]
async fn j9_a_newcomer_by_sql_leaves_alone_what_does_not_wait() {
    let side = Arc::new(Side::new().await);
    let job =
        side.ow.enqueue(Number(1)).dedupe("d", DedupeScope::Window(HOUR)).max_attempts(2).await.unwrap();
    let fails = async |_: Number| Outcome::RetryAfter { error: "no".to_owned(), after: HOUR };
    let worker = side.ow.worker().job(fails).start().await.unwrap();
    until(&side.ow, job.id, JobState::Retrying).await;
    worker.shutdown().await;
    let newcomer = |conflict: &str, delay: &str| {
        json!({"dedupe_key": "d", "on_conflict": conflict, "max_attempts": 1, "delay": delay}).to_string()
    };
    let same = side.by_sql("test.number", b"2", &newcomer("replace", "0s")).await.unwrap();
    assert_eq!(same, job.id.to_string());
    let row = side.ow.admin().job(job.id).await.unwrap();
    assert_eq!(
        (row.state, row.payload.bytes.as_slice(), row.policy.max_attempts),
        (JobState::Retrying, &b"2"[..], 2)
    );
    side.by_sql("test.number", b"3", &newcomer("push_out", "0s")).await.unwrap();
    let runs = async |number: Number, side: State<Arc<Side>>| {
        assert_eq!(number.0, 2);
        let options = r#"{"dedupe_key": "d", "on_conflict": "replace"}"#;
        side.by_sql("test.number", b"9", options).await.map_err(|(code, why)| format!("{code}: {why}"))
    };
    side.ow.worker().job(runs).state(Arc::clone(&side)).run_until_empty(NOW).await.unwrap();
    let done = side.ow.admin().job(job.id).await.unwrap();
    assert_eq!((done.state, done.attempt, &done.payload.bytes[..]), (JobState::Succeeded, 2, &b"2"[..]));
    assert_eq!(done.result.as_ref().unwrap().bytes, Some(format!("\"{}\"", job.id).into_bytes()), "it ran");
    for conflict in ["existing", "replace", "push_out"] {
        let id = side.by_sql("test.number", b"4", &newcomer(conflict, "1h")).await.unwrap();
        assert_eq!(id, job.id.to_string(), "{conflict}");
    }
    assert_eq!(side.ow.admin().job(job.id).await.unwrap(), done, "J6");
    side.ow.shutdown().await;
}

/// J9, J13: keys that are taken, and calls that are sent again.
#[tokio::test(flavor = "multi_thread")]
async fn j9_keys_by_sql_find_the_first_job() {
    let side = Side::new().await;
    let keyed = r#"{"idempotency_key": "k"}"#;
    let first = side.by_sql("test.number", b"1", keyed).await.unwrap();
    assert_eq!(side.by_sql("test.number", b"1", keyed).await.unwrap(), first);
    let (code, message) = side.by_sql("test.number", b"2", keyed).await.unwrap_err();
    assert!(code == "OW702" && message.contains(&first), "{message}");
    // Rust and SQL find each other's.
    let found = side.ow.enqueue(Number(1)).key("k").await.unwrap();
    assert_eq!((found.id.to_string(), found.created), (first.clone(), false));
    assert_eq!(side.ow.enqueue(Number(2)).key("k").await.unwrap_err().code(), Code::JobKeyMismatch);
    let other = side.ow.enqueue(Number(3)).key("r").dedupe("d", DedupeScope::UntilDone).await.unwrap();
    assert_eq!(
        side.by_sql("test.number", b"3", r#"{"idempotency_key": "r"}"#).await.unwrap(),
        other.id.to_string()
    );
    // Of two keys of which one is taken, the other stays free.
    let both = r#"{"idempotency_key": "free", "dedupe_key": "d"}"#;
    assert_eq!(side.by_sql("test.number", b"4", both).await.unwrap(), other.id.to_string());
    let free = side.by_sql("test.number", b"5", r#"{"idempotency_key": "free"}"#).await.unwrap();
    // A key lasts at least as long as its job.
    let past = format!(
        "UPDATE {}.job_key SET expires_at = '2020-01-01Z' WHERE purpose = 'idempotency'",
        side.schema.name()
    );
    side.sql.batch_execute(&past).await.unwrap();
    assert_eq!(side.by_sql("test.number", b"1", keyed).await.unwrap(), first);
    // An id of one's own: the call sent again is the same job, also once it is done.
    let id = "0190a6b2-7c41-7b7e-9b37-0d5d3f0f8a11";
    let own = json!({"id": id, "delay": "0s"}).to_string();
    for _ in 0..2 {
        assert_eq!(side.by_sql("test.number", b"7", &own).await.unwrap(), id);
    }
    side.ow.worker().job(async |_: Number| ()).run_until_empty(NOW).await.unwrap();
    assert_eq!(side.by_sql("test.number", b"7", &own).await.unwrap(), id);
    let row = side.ow.admin().job(id.parse().unwrap()).await.unwrap();
    assert_eq!(row.state, JobState::Succeeded);
    // Over, the key goes to the next one, and the job of its dedupe key has let that go.
    let second = side.by_sql("test.number", b"2", keyed).await.unwrap();
    assert!(second != first && second != free);
    assert_ne!(side.by_sql("test.number", b"4", both).await.unwrap(), other.id.to_string());
    side.end().await;
}

/// Both languages refuse the same, with the same code.
#[tokio::test(flavor = "multi_thread")]
async fn what_rust_refuses_sql_refuses_before_anything_is_written() {
    let side = Side::new().await;
    let refused: [Said; 24] = [
        (|job| job.queue(""), r#"{"queue": ""}"#),
        (|job| job.queue("a\u{202e}b"), r#"{"queue": "a\u202eb"}"#),
        (|job| job.queue("x".repeat(129)), r#"{"queue": "LONG"}"#),
        (|job| job.priority(1_001), r#"{"priority": 1001}"#),
        (|job| job.max_attempts(0), r#"{"max_attempts": 0}"#),
        (|job| job.timeout(Duration::from_millis(9)), r#"{"timeout": "9ms"}"#),
        (|job| job.timeout(HOUR * 24 * 8), r#"{"timeout": "8 days"}"#),
        (|job| job.delay(HOUR * 24 * 3_661), r#"{"delay": "3661d"}"#),
        (|job| job.run_at(Timestamp::from_micros(-1)), r#"{"run_at": "1969-12-31T23:59:59Z"}"#),
        (|job| job.deadline(Timestamp::from_micros(i64::MAX)), r#"{"deadline": "2300-01-01T00:00:00Z"}"#),
        (
            |job| job.run_at(at("2050-01-01T00:00:00Z")).deadline(at("2050-01-01T00:00:00Z")),
            r#"{"run_at": "2050-01-01T00:00:00Z", "deadline": "2050-01-01T00:00:00Z"}"#,
        ),
        (|job| job.retain(HOUR * 24 * 3_661), r#"{"retain": "3661d"}"#),
        (|job| job.key("a\nb"), r#"{"idempotency_key": "a\nb"}"#),
        (|job| job.key_ttl(HOUR), r#"{"key_ttl": "1h"}"#),
        (|job| job.key("k").key_ttl(HOUR * 24 * 3_661), r#"{"idempotency_key": "k", "key_ttl": "3661d"}"#),
        (|job| job.dedupe("", DedupeScope::UntilDone), r#"{"dedupe_key": ""}"#),
        (|job| job.on_conflict(OnConflict::Replace), r#"{"on_conflict": "replace"}"#),
        (
            |job| job.dedupe("d", DedupeScope::Window(HOUR * 24 * 3_661)),
            r#"{"dedupe_key": "d", "dedupe_scope": "window(3661d)"}"#,
        ),
        (|job| job.ordering_key(""), r#"{"ordering_key": ""}"#),
        (|job| job.tag("a\u{85}"), r#"{"tags": ["a\u0085"]}"#),
        (|job| (0..17).fold(job, |job, n| job.tag(format!("t{n}"))), r#"{"tags": [17 of them]}"#),
        (|job| job.metadata(&"x".repeat(16 * 1024)), r#"{"metadata": "METADATA"}"#),
        (|job| job.trace("x".repeat(513)), r#"{"trace": "TRACE"}"#),
        (|job| job.timeout(Duration::from_secs(604_801)), r#"{"timeout": "7d 1s"}"#),
    ];
    for (said, options) in refused {
        let options = options
            .replace("LONG", &"x".repeat(129))
            .replace("17 of them", &(0..17).map(|n| format!("\"t{n}\"")).collect::<Vec<_>>().join(","))
            .replace("METADATA", &"x".repeat(16 * 1024))
            .replace("TRACE", &"x".repeat(513));
        let rust = said(side.job("{}")).await.unwrap_err().code().as_str().replacen("OW0", "OW", 1);
        let (code, message) = side.by_sql("mail", b"{}", &options).await.unwrap_err();
        assert_eq!(code, rust, "{options}: {message}");
    }
    let (code, _) = side.by_sql("http", b"{}", r#"{"timeout": "11m"}"#).await.unwrap_err();
    assert_eq!(code, "OW124", "ten minutes are the most for a request");
    let large = side.by_sql("mail", &vec![0; 1024 * 1024 + 1], "{}").await.unwrap_err();
    assert_eq!(large.0, "OW119");
    assert_eq!(side.rows().await["jobs"], Value::Null, "nothing was written");
    side.end().await;
}

/// What Rust can't even say is refused with words on what to say instead.
/// Decisions 22: who asks for it has workers of other processes told with his commit, and not before; who does not, has
/// nothing sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_by_sql_tells_workers_only_where_it_is_asked_to() {
    use onceward::store::Wake;
    let mut side = Side::new().await;
    let mut wakes = side.ow.store().subscribe();
    assert!(matches!(wakes.recv().await.unwrap(), Wake::Anything), "listening has begun");
    let text = format!("SELECT {}.enqueue('default', 'mail', '{{}}', $1::text::jsonb)", side.schema.name());
    let quiet = r#"{"queue": "quiet", "notify": false}"#;
    let later = r#"{"queue": "later", "notify": true, "delay": "1h"}"#;
    let loud = r#"{"queue": "loud", "notify": true}"#;
    let tx = side.sql.transaction().await.unwrap();
    for options in [quiet, later, loud] {
        tx.query(&text, &[&options]).await.unwrap();
    }
    let early = tokio::time::timeout(Duration::from_millis(300), wakes.recv()).await;
    assert!(early.is_err(), "nothing before the commit: {early:?}");
    tx.commit().await.unwrap();
    let mut heard = Vec::new();
    while let Ok(wake) = tokio::time::timeout(Duration::from_secs(1), wakes.recv()).await {
        heard.push(wake.unwrap());
    }
    assert!(
        matches!(&heard[..], [Wake::Jobs(of, queue)] if (of.as_str(), queue.as_str()) == ("default", "loud")),
        "{heard:?}"
    );
    let refused = side.by_sql("mail", b"{}", r#"{"notify": "yes"}"#).await.unwrap_err();
    assert_eq!(refused.0, "OW128");
    side.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_nobody_knows_or_can_read_are_refused_with_words() {
    let side = Side::new().await;
    for (options, code, words) in [
        (r#"{"dely": "1s"}"#, "OW128", "say one of id, queue"),
        (r#"{"Queue": "q"}"#, "OW128", "not an option"),
        ("[]", "OW128", "JSON object"),
        ("null", "OW128", "JSON object"),
        (r#"{"queue": 7}"#, "OW118", "a text"),
        (r#"{"priority": "7"}"#, "OW120", "a whole number"),
        (r#"{"priority": 7.5}"#, "OW120", "a whole number"),
        (r#"{"priority": 1e30}"#, "OW120", "a whole number"),
        (r#"{"max_attempts": true}"#, "OW121", "a whole number"),
        (r#"{"delay": "soon"}"#, "OW105", "write it like 250ms"),
        (r#"{"delay": "90"}"#, "OW105", "write it like 250ms"),
        (r#"{"delay": 90}"#, "OW105", "a text"),
        (r#"{"delay": "1s 1h"}"#, "OW105", "write it like 250ms"),
        (r#"{"delay": "-1s"}"#, "OW105", "write it like 250ms"),
        (r#"{"delay": ""}"#, "OW105", "write it like 250ms"),
        (r#"{"delay": "999999999999999w"}"#, "OW105", "write it like 250ms"),
        (r#"{"run_at": "tomorrow"}"#, "OW122", "2026-11-20T09:30:00Z"),
        (r#"{"run_at": "2026-11-20"}"#, "OW122", "2026-11-20T09:30:00Z"),
        (r#"{"run_at": "2026-11-20T09:30:00"}"#, "OW122", "2026-11-20T09:30:00Z"),
        (r#"{"deadline": "2026-13-01T00:00:00Z"}"#, "OW122", "2026-11-20T09:30:00Z"),
        (r#"{"retry": "often"}"#, "OW123", "fixed, linear or exponential"),
        (r#"{"retry": "fixed"}"#, "OW123", "a pause is written like 2s"),
        (r#"{"retry": "fixed 5"}"#, "OW123", "a pause is written like 2s"),
        (r#"{"retry": "fixed 5s max 6s"}"#, "OW123", "only max and jitter"),
        (r#"{"retry": "linear 2m max 1m"}"#, "OW123", "not a retry policy"),
        (r#"{"retry": "fixed 1s jitter 2"}"#, "OW123", "from 0 to 1"),
        (r#"{"retry": "fixed 1s jitter"}"#, "OW123", "from 0 to 1"),
        (r#"{"retry": "exponential 2s twice"}"#, "OW123", "only max and jitter"),
        (r#"{"retry": "exponential 2s max"}"#, "OW123", "not a retry policy"),
        (r#"{"at_most_once": "yes"}"#, "OW128", "true or false"),
        (r#"{"dedupe_key": "d", "dedupe_scope": "forever"}"#, "OW128", "until_started, until_done"),
        (r#"{"dedupe_key": "d", "dedupe_scope": "window(soon)"}"#, "OW105", "write it like"),
        (r#"{"dedupe_key": "d", "on_conflict": "explode"}"#, "OW128", "existing, replace or push_out"),
        (r#"{"dedupe_scope": "until_done"}"#, "OW101", "there is none"),
        (r#"{"tags": "gpu"}"#, "OW125", "array of texts"),
        (r#"{"tags": [1]}"#, "OW125", "array of texts"),
        (r#"{"tags": [null]}"#, "OW125", "array of texts"),
        (r#"{"id": "17"}"#, "OW126", "not the id of a job"),
        (r#"{"content_type": "a\nb"}"#, "OW108", "a content type is a line"),
    ] {
        let (found, message) = side.by_sql("mail", b"{}", options).await.unwrap_err();
        assert_eq!(found, code, "{options}: {message}");
        assert!(message.contains(words), "{options}: {message}");
    }
    for (kind, code) in [("", "OW117"), ("a\u{2028}b", "OW117")] {
        assert_eq!(side.by_sql(kind, b"{}", "{}").await.unwrap_err().0, code);
    }
    assert_eq!(side.rows().await["jobs"], Value::Null, "nothing was written");
    side.end().await;
}

/// What the guide prints works as it is printed, also for a role with the rights that are printed for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_to_enqueueing_by_sql_is_right() {
    let side = Side::new().await;
    let guide = include_str!("../../../../docs/guides/outbox.md");
    let rights = include_str!("../../../../docs/operating/postgres-rights.md");
    let block = |text: &str, begin: &str| {
        let at = text.find(begin).unwrap();
        text[at..].split("```").next().unwrap().to_owned()
    };
    let (schema, role) = (side.schema.name(), format!("{}_role", side.schema.name()));
    let ours = |text: String| {
        let text = text.replace("onceward_enqueue", &role).replace("onceward.", &format!("{schema}."));
        text.replace("SCHEMA onceward ", &format!("SCHEMA {schema} "))
    };
    let call = ours(block(guide, "SELECT onceward.enqueue("));
    side.sql.batch_execute(&ours(block(rights, "CREATE ROLE onceward_enqueue"))).await.unwrap();
    for role in [role.as_str(), "none"] {
        side.sql.batch_execute(&format!("SET ROLE {role}; {call}")).await.unwrap();
    }
    side.sql.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
    let id = r#"{"id": "0190a6b2-7c41-7b7e-9b37-0d5d3f0f8a11", "idempotency_key": "k", "dedupe_key": "d",
                 "tags": ["a"]}"#;
    for (options, refused) in [
        (id, None),
        (id, None),
        (r#"{"delay": "1h", "ordering_key": "k"}"#, None),
        (r#"{"ordering_key": "k", "idempotency_key": "k2"}"#, None),
        (r#"{"dedupe_key": "d"}"#, None),
        (r#"{"dedupe_key": "d", "on_conflict": "replace"}"#, Some("42501")),
    ] {
        let answer = side.by_sql("mail", b"{}", options).await;
        assert_eq!(answer.as_ref().err().map(|(code, _)| code.as_str()), refused, "{options}: {answer:?}");
    }
    let seen = side.sql.query(&format!("SELECT payload FROM {schema}.job"), &[]).await.unwrap_err();
    assert_eq!(seen.code().unwrap().code(), "42501", "it can't read what others have enqueued");
    side.sql.batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    // A literal is kept as it is written; what is no JSON is refused, unless it is said to be something else.
    let text = format!("SELECT payload FROM {schema}.job WHERE kind = 'order.placed'");
    let payload: Vec<u8> = side.sql.query_one(&text, &[]).await.unwrap().get(0);
    assert_eq!(payload, b"{\"id\": 17}");
    let plain = format!("SELECT {schema}.enqueue('default', 'mail', 'Hello', $1::text::jsonb)");
    let refused = side.sql.execute(&plain, &[&"{}"]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "OW707");
    side.sql.execute(&plain, &[&r#"{"content_type": "text/plain"}"#]).await.unwrap();
    side.end().await;
}
