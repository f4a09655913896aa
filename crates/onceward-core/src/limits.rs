//! Every bound of the system in one place. A value outside is refused at the edge, never adjusted in silence.

use core::time::Duration;

/// The longest key, in bytes. The same bound the large payment APIs use.
pub const KEY_BYTES_MAX: usize = 255;
/// The longest namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 128;
/// The longest owner name, in bytes.
pub const OWNER_BYTES_MAX: usize = 255;
/// The longest metadata text of a lease, in bytes.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// The longest reason or evidence text kept with a row or an event, in bytes. Longer ones are cut on a character.
pub const REASON_BYTES_MAX: usize = 4 * 1024;
/// The longest content type of a recorded result, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// The shortest time to live of a claim outside tests.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// The shortest time to live of a claim where short ones were allowed for tests.
pub const TTL_MIN_IN_TESTS: Duration = Duration::from_millis(100);
/// The longest time to live of a claim.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The time to live used when the caller names none.
pub const TTL_DEFAULT: Duration = Duration::from_secs(10);
/// The longest hard limit of one execution or holding.
pub const HARD_TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The hard limit of one `once` execution when the caller names none. Leases have none by default.
pub const ONCE_HARD_TTL_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// The longest time a function of `once` has to come to its end after it was told to stop.
pub const STOP_WITHIN_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest pause between a lost lease and the next grant.
pub const LOCK_DELAY_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a finished `once` result is kept when the caller does not say.
pub const RETAIN_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The shortest retention of a finished result.
pub const RETAIN_MIN: Duration = Duration::from_secs(1);
/// The longest retention of a finished result: ten years.
pub const RETAIN_MAX: Duration = Duration::from_secs(3660 * 24 * 60 * 60);

/// The largest recorded result, in bytes. A larger one is recorded as done without its body.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// The most holders of one counted lease.
pub const CAPACITY_MAX: u32 = 10_000;
/// Every how many tokens one belongs to the same place of a counted lease: a power of two above [`CAPACITY_MAX`].
pub const PLACE_TOKENS: i64 = 16_384;
/// The most keys of one several-keys acquire.
pub const KEYS_AT_ONCE_MAX: usize = 100;

/// The longest kind of a job, in bytes.
pub const KIND_BYTES_MAX: usize = 128;
/// The longest name of a queue, in bytes.
pub const QUEUE_BYTES_MAX: usize = 128;
/// The most that a handler may say about how far its job is, in bytes of JSON.
pub const PROGRESS_BYTES_MAX: usize = 4 * 1024;
/// The largest payload of a job, in bytes. A larger one belongs into a store for files, and its name into the job.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// The priorities run from minus this number to plus this number; the higher one goes first.
pub const PRIORITY_MAX: i16 = 1_000;
/// The most attempts of one job.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// The most jobs that one worker runs at the same time.
pub const WORKER_CONCURRENCY_MAX: usize = 100_000;
/// The attempts of a job when the caller does not say.
pub const ATTEMPTS_DEFAULT: u32 = 20;
/// How many attempts may be lost with their processes before a job is taken for the cause of it.
pub const LOST_MAX: u32 = 5;
/// How often a run may lose its process without having parked in between, before it is taken for what kills them.
pub const RUN_LOST_MAX: u32 = 100;
/// From how many on it is claimed by itself.
pub const RUN_LOST_ALONE: u32 = 20;
/// The most entries a journal may have.
pub const JOURNAL_ENTRIES_MAX: u32 = 1_000_000;
/// The most bytes that what has ended in a journal may have in all, before they are compressed.
pub const JOURNAL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The longest name of a step or a signal, in bytes.
pub const STEP_NAME_BYTES_MAX: usize = 128;
/// The longest time until a job is due, a retry is made, or a snooze ends: ten years.
pub const DELAY_MAX: Duration = Duration::from_secs(3660 * 24 * 60 * 60);
/// The shortest time-out of one attempt.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// The longest time-out of one attempt.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The time-out of one attempt when the caller does not say.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// How long a job that has succeeded or was cancelled is kept when the caller does not say.
pub const JOB_RETAIN_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a job that runs at most once is kept at least, whatever it says: longer than a lost answer is asked for
/// again.
pub const AT_MOST_ONCE_KEPT_MIN: Duration = Duration::from_secs(60);
/// How long a replay that was asked for by a name is kept at least: for so long the same name makes no second one.
pub const REPLAY_KEPT_MIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a dead job is kept.
pub const DEAD_RETAIN_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How long an idempotency key refers to its job when the caller does not say.
pub const JOB_KEY_TTL_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most tags of a job or of a worker.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// The longest trace context of a job, in bytes.
pub const TRACE_BYTES_MAX: usize = 512;
/// The longest error kept of one attempt, in bytes. Longer ones are cut on a character.
pub const ATTEMPT_ERROR_BYTES_MAX: usize = 2 * 1024;
/// How much is kept of the attempts before the last one, in bytes. The first and the newest ones stay.
pub const PAST_BYTES_MAX: usize = 32 * 1024;
/// The most jobs of one claim.
pub const CLAIM_JOBS_MAX: usize = 1_000;
/// The time to live of a worker's session when nothing else is said.
pub const SESSION_TTL_DEFAULT: Duration = Duration::from_secs(15);

/// The longest URL of an HTTP job, in bytes.
pub const HTTP_URL_BYTES_MAX: usize = 2 * 1024;
/// The most headers of an HTTP job.
pub const HTTP_HEADERS_MAX: usize = 64;
/// The most that the headers of an HTTP job have together, in bytes.
pub const HTTP_HEADERS_BYTES_MAX: usize = 16 * 1024;
/// The longest name of a header, in bytes.
pub const HTTP_HEADER_NAME_BYTES_MAX: usize = 128;
/// The longest value of a header, in bytes.
pub const HTTP_HEADER_VALUE_BYTES_MAX: usize = 8 * 1024;
/// The longest name of a signing key, in bytes.
pub const SIGNING_KEY_BYTES_MAX: usize = 64;
/// How long an HTTP job may take when the caller does not say: everything from looking up the name to the last byte.
pub const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest time of an HTTP job: a receiver that is slower than this should answer first and work afterwards.
pub const HTTP_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
/// The most addresses that a name may stand for.
pub const HTTP_ADDRESSES_MAX: usize = 64;
/// How much of an answer is read, in bytes. A longer one is none.
pub const HTTP_ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// How much of an answer is kept, in bytes.
pub const HTTP_EXCERPT_BYTES_MAX: usize = 1024;
/// The shortest pause that a receiver may ask for.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// The longest pause that a receiver may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest name of an endpoint, in bytes.
pub const ENDPOINT_BYTES_MAX: usize = 128;
/// The longest type of an event, in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 128;
/// The largest event, in bytes: each of its deliveries is a payload that names the endpoint beside it.
pub const EVENT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 1024;
/// The most patterns of events that an endpoint may have.
pub const ENDPOINT_EVENTS_MAX: usize = 100;
/// The most keys that what an endpoint gets is signed with at the same time.
pub const ENDPOINT_KEYS_MAX: usize = 4;
/// For how long an old key signs beside the new one when the caller does not say.
pub const KEY_OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long an old key may sign beside the new one at the most.
pub const KEY_OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// For how long an endpoint has failed without a break when it is disabled, when nobody says anything else.
pub const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// How often it has failed then.
pub const GIVE_UP_FAILURES_DEFAULT: u32 = 20;
/// The longest time that an endpoint may be set to fail before it is disabled.
pub const GIVE_UP_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// How much is kept of what went wrong with an endpoint, in bytes.
pub const ENDPOINT_ERROR_BYTES_MAX: usize = 512;
/// The longest name of a service, in bytes.
pub const SERVICE_BYTES_MAX: usize = 128;
/// The longest name of a schedule, in bytes.
pub const SCHEDULE_BYTES_MAX: usize = 128;
/// The longest name of a trigger, in bytes.
pub const TRIGGER_BYTES_MAX: usize = 128;
/// The most conditions of a trigger.
pub const TRIGGER_CONDITIONS_MAX: usize = 8;
/// How many jobs may follow from each other by triggers.
pub const TRIGGER_DEPTH_MAX: u32 = 16;
/// How many groups of outcomes of one trigger may wait for what they belong to.
pub const TRIGGER_OPEN_MAX: usize = 256;
/// How long outcomes wait for others that they belong to when the caller does not say.
pub const TRIGGER_WITHIN_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest interval of a service or schedule outside tests.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest interval of a service or schedule, and the longest window in which missed runs are made up for.
pub const INTERVAL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The shortest time to live of a term when the caller names none; the interval, if that lies between the two.
pub const TERM_TTL_MIN: Duration = Duration::from_secs(1);
/// The longest time to live of a term when the caller names none.
pub const TERM_TTL_MAX: Duration = Duration::from_secs(15);
/// How many missed cycles have a row each; those before them share one.
pub const MISSED_CYCLES_MAX: i64 = 100;
/// How far ahead of the clock a term may be due, or a runner have been seen: what lies beyond was written while
/// the clock was wrong.
pub const TERMS_AHEAD_MAX: Duration = Duration::from_secs(60);
/// How many terms that somebody has asked for may wait for each other.
pub const RUNS_WAITING_MAX: usize = 16;
/// How many pauses of a service are remembered, as far as missed cycles are made up for.
pub const PAUSES_MAX: usize = 16;
/// How long terms are kept.
pub const TERMS_RETAIN_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The longest jitter of a schedule.
pub const JITTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The most ticks of one backfill.
pub const BACKFILL_TICKS_MAX: usize = 10_000;

/// The most rows in one batch that goes to a store as one statement.
pub const BATCH_ROWS_MAX: usize = 512;
/// The most payload bytes in one batch, counted over results and metadata.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most claims renewed by one statement.
pub const RENEW_ROWS_MAX: usize = 10_000;
/// The most callers that may wait in one lane before new ones are told that the store is busy.
pub const LANE_WAITING_MAX: usize = 65_536;
/// The most rows one page of a listing holds.
pub const PAGE_ROWS_MAX: usize = 500;

/// The number below which every token stays until the year 2255: exact in a JSON number.
pub const TOKEN_MAX: i64 = (1 << 53) - 1;
