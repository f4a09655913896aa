//! Every statement of the store, filled in once when it is opened. The text is in `sql/postgres/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

use crate::StoreKind;
use crate::enlist::EnlistSql;
use crate::sql::{postgres_sql, step};
use crate::wall::Trust;

/// A statement with the types of its parameters, so that neither side has to ask for them.
#[derive(Debug)]
pub(super) struct Statement {
    /// Where a connection keeps it prepared.
    pub(super) index: usize,
    pub(super) text: String,
    pub(super) types: &'static [Type],
    /// Whether it is worth preparing: hot, and planned well without knowing the values.
    pub(super) prepared: bool,
}

/// What a statement brings along where a connection has no settings of its own: behind a pooler.
const BOUND: &str = "WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true)
)";

/// What several statements have in common: it is written once, and stands in them by its name.
const PARTS: [(&str, &str, &str); 18] = [
    // These have parts of their own.
    ("{starts}", postgres_sql!("run/append"), "starts"),
    ("{ends}", postgres_sql!("run/append"), "ends"),
    ("{kept}", postgres_sql!("run/append"), "kept"),
    ("{over}", postgres_sql!("run/append"), "over"),
    ("{children}", postgres_sql!("run/append"), "children"),
    ("{placed}", postgres_sql!("run/append"), "placed"),
    ("{taking}", postgres_sql!("lease/acquire"), "taking"),
    ("{granting}", postgres_sql!("lease/acquire"), "granting"),
    ("{backs}", postgres_sql!("lease/release"), "backs"),
    ("{lying}", postgres_sql!("lease/release"), "lying"),
    ("{telling}", postgres_sql!("lease/release"), "telling"),
    ("{lanes}", postgres_sql!("job/enqueue"), "lanes"),
    ("{ordered_lanes}", postgres_sql!("job/enqueue"), "ordered_lanes"),
    ("{standing}", postgres_sql!("job/claim"), "standing"),
    ("{held}", postgres_sql!("run/append"), "held"),
    ("{journal}", postgres_sql!("run/append"), "journal"),
    ("{woken}", postgres_sql!("run/wake"), "woken"),
    ("{overheard}", postgres_sql!("trigger/overhear"), "overheard"),
];

/// Puts the parts, the schema and the clock into a text, and leaves its comments behind. `{bound}` stands before a
/// statement that waits for locks at most as long as its connection allows, or as it says itself behind a pooler;
/// `{bounded}` stands where it begins to read.
///
/// The schema is quoted: the rule for its name allows words that SQL keeps for itself.
pub(super) fn fill(text: &str, schema: &str, test_clock: bool, pooled: bool) -> String {
    let schema = format!("\"{schema}\"");
    let clock = if test_clock { format!("{schema}.test_clock()") } else { "clock_timestamp()".to_owned() };
    let whole = PARTS.iter().fold(text.to_owned(), |text, (place, file, part)| match text.contains(place) {
        true => text.replace(place, step(file, part).trim_end()),
        false => text,
    });
    let code =
        whole.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    let code = match pooled {
        false => code.replace("{bound}", "").replace("{bounded}", ""),
        true => {
            let code = code.replace("{bound}WITH ", &format!("{BOUND}, "));
            code.replace("{bound}", BOUND).replace("{bounded}", "setting, ")
        }
    };
    code.replace("{schema}", &schema).replace("{clock}", &clock)
}

/// The statements that may join a caller's transaction.
pub(super) fn enlisted(schema: &str, test_clock: bool, server_clock: &Arc<Trust>) -> EnlistSql {
    let text = |text: &str| Arc::from(fill(text, schema, test_clock, false));
    let one = |file: &str| vec![text(file)];
    EnlistSql {
        kind: StoreKind::Postgres,
        guard: one(postgres_sql!("lease/guard")),
        claim_in: one(postgres_sql!("once/claim_in")),
        settle_in: one(postgres_sql!("once/settle_in")),
        server_clock: Arc::clone(server_clock),
        jobs: BTreeMap::from([
            ("enqueue", text(step(postgres_sql!("job/enqueue_in"), "enqueue"))),
            ("waiting", text(step(postgres_sql!("job/enqueue_in"), "waiting"))),
            ("existing", text(step(postgres_sql!("job/enqueue_in"), "existing"))),
            // A caller's driver gives the id as text.
            (
                "replace",
                text(&step(postgres_sql!("job/enqueue"), "replace").replace("$2::uuid", "$2::text::uuid")),
            ),
            ("settle", text(postgres_sql!("job/settle_in"))),
            ("run_tell", text(step(postgres_sql!("run/tell_in"), "tell"))),
            ("run_write", text(step(postgres_sql!("run/tell_in"), "write"))),
        ]),
    }
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $how:ident $file:literal $($step:literal)? ($($type:ident),*);)*) => {
        /// Every statement, by name.
        #[derive(Debug)]
        pub(super) struct Statements { $($(#[$doc])* pub(super) $name: Statement,)* }

        /// The places of the statements on a connection.
        #[allow(non_camel_case_types)]
        enum Place { $($name,)* Count }

        impl Statements {
            /// How many there are.
            pub(super) const COUNT: usize = Place::Count as usize;

            /// Fills all of them in.
            pub(super) fn new(schema: &str, test_clock: bool, pooled: bool) -> Self {
                Self { $($name: Statement {
                    index: Place::$name as usize,
                    text: fill(statements!(@text $file $($step)?), schema, test_clock, pooled),
                    types: { const TYPES: &[Type] = &[$(Type::$type),*]; TYPES },
                    prepared: statements!(@$how),
                },)* }
            }

            /// All of them with their names, for the tests of their plans.
            #[cfg(any(test, feature = "conformance"))]
            pub(super) fn all(&self) -> Vec<(&'static str, &Statement)> {
                vec![$((stringify!($name), &self.$name)),*]
            }
        }
    };
    (@text $file:literal) => { postgres_sql!($file) };
    (@text $file:literal $step:literal) => { step(postgres_sql!($file), $step) };
    (@prepared) => { true };
    (@ordered) => { true };
    (@planned) => { false };
}

statements! {
    acquire_given_back = prepared "lease/acquire" "given_back" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY,
        INT8_ARRAY, INT8_ARRAY, INT8_ARRAY, TEXT_ARRAY);
    acquire_free = prepared "lease/acquire" "free" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY,
        INT8_ARRAY, INT8_ARRAY, TEXT_ARRAY);
    acquire = prepared "lease/acquire" "batch" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY, INT8_ARRAY,
        INT8_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY);
    acquire_counted = prepared "lease/acquire" "counted" (TEXT, TEXT, TEXT, UUID, INT8, INT8, INT8, TEXT, INT8, INT8,
        INT8);
    lease_renew = prepared "lease/renew" "renew" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY, UUID_ARRAY);
    lease_renew_seen = prepared "lease/renew" "seen" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY, UUID_ARRAY);
    release_near = prepared "lease/release" "near" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TID_ARRAY);
    release = prepared "lease/release" "release" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TID_ARRAY);
    notify = prepared "lease/release" "notify" (TEXT, TEXT);
    wait = prepared "lease/wait" (TEXT, TEXT, UUID, BOOL, INT8);
    leave = prepared "lease/leave" (TEXT, TEXT, UUID);
    break_lease = planned "lease/break" (TEXT, TEXT, INT8, TEXT, TEXT);
    lease_lookup = prepared "lease/lookup" (TEXT, TEXT);
    lease_list = planned "lease/list" (TEXT, TEXT, TEXT, TEXT, TEXT, INT8, INT8);
    claim_fresh = prepared "once/claim" "fresh" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY, INT8_ARRAY,
        INT8_ARRAY, BYTEA_ARRAY);
    claim_new = prepared "once/claim" "new" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY, INT8_ARRAY,
        INT8_ARRAY, BYTEA_ARRAY);
    claim = prepared "once/claim" "claim" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY, INT8_ARRAY,
        INT8_ARRAY, BYTEA_ARRAY, BOOL_ARRAY, TEXT);
    once_renew = prepared "once/renew" "renew" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, UUID_ARRAY);
    once_renew_seen = prepared "once/renew" "seen" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, UUID_ARRAY);
    settle_outcome = prepared "once/settle" "outcome" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, BYTEA_ARRAY,
        TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TID_ARRAY);
    settle_doubt = prepared "once/settle" "doubt" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, BYTEA_ARRAY,
        TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY);
    resolve = planned "once/resolve" (TEXT, TEXT, INT8, TEXT, TEXT, BYTEA, TEXT, INT8, TEXT, TEXT, TEXT, TEXT);
    once_lookup = prepared "once/lookup" (TEXT_ARRAY, TEXT_ARRAY);
    once_list = planned "once/list" "all" (TEXT, TEXT, TEXT, TEXT, TEXT, INT8);
    once_swept = planned "once/list" "swept" ();
    once_list_open = planned "once/list" "open" (TEXT, TEXT, TEXT, TEXT, TEXT, INT8, INT8);
    history = planned "history/list" (TEXT, TEXT, TEXT, INT8);
    prune_now = planned "upkeep/prune" "now" ();
    prune_pages = planned "upkeep/prune" "pages" ();
    sweep = planned "upkeep/prune" "sweep" (INT8, INT8, TEXT, INT8);
    sweep_hidden = planned "upkeep/prune" "hidden" (TEXT, TEXT);
    prune_once = planned "upkeep/prune" "once" (INT8, INT8, TEXT, TEXT);
    prune_untold = planned "upkeep/prune" "untold" (INT8, INT8, TEXT, TEXT);
    prune_leases = planned "upkeep/prune" "leases" (INT8, INT8, TEXT, TEXT, INT8);
    prune_waiters = planned "upkeep/prune" "waiters" (INT8, INT8);
    prune_history = planned "upkeep/prune" "history" (INT8, INT8);
    session_open = prepared "session/open" (UUID, TEXT, INT8, TEXT);
    session_renew = prepared "session/renew" "renew" (UUID, INT8);
    session_renew_seen = prepared "session/renew" "seen" (UUID, INT8);
    session_close = prepared "session/close" (UUID, INT8);
    session_list = planned "session/list" ();
    session_drain = prepared "session/drain" (UUID, BOOL);
    enqueue_now = prepared "job/enqueue" "now" ();
    enqueue_new = prepared "job/enqueue" "new" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
        INT4_ARRAY, UUID_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY);
    enqueue_handed = prepared "job/enqueue" "handed" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, TEXT_ARRAY,
        TEXT_ARRAY, INT4_ARRAY, UUID_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY, UUID, UUID, TEXT);
    enqueue = prepared "job/enqueue" "any" (TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
        UUID_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY, INT8_ARRAY, TEXT_ARRAY,
        INT8_ARRAY, BOOL_ARRAY, BOOL_ARRAY);
    enqueue_left = prepared "job/enqueue" "left" (TEXT, TEXT, TEXT, UUID);
    enqueue_replace = prepared "job/enqueue" "replace" (TEXT, UUID, INT8, BYTEA, TEXT, TEXT, TEXT, INT8, BOOL);
    claim_one = ordered "job/claim" "one" (TEXT, UUID, UUID, TEXT, TEXT, TEXT, BOOL, INT8, INT2, TIMESTAMPTZ, UUID);
    claim_many = ordered "job/claim" "many" (TEXT, UUID, UUID, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, BOOL,
        INT8, INT2_ARRAY, TIMESTAMPTZ_ARRAY, UUID_ARRAY);
    claim_permitted = ordered "job/claim" "permitted" (TEXT, UUID, UUID, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY,
        BOOL, INT8, INT2_ARRAY, TIMESTAMPTZ_ARRAY, UUID_ARRAY);
    claim_aged = ordered "job/claim" "aged" (TEXT, UUID, UUID, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, BOOL,
        INT8, BOOL);
    claim_again = prepared "job/claim" "again" (UUID);
    claim_moved = prepared "job/claim" "moved" (UUID, UUID_ARRAY);
    job_begin = prepared "job/begin" (TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY, UUID_ARRAY);
    job_progress = prepared "job/progress" (TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY, BYTEA_ARRAY, TEXT_ARRAY);
    job_settle_done = prepared "job/settle" "done" (TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY,
        INT4_ARRAY, INT4_ARRAY, INT8_ARRAY, INT4_ARRAY, UUID_ARRAY, TID_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY,
        UUID_ARRAY);
    job_settle_child = prepared "job/settle" "child" (TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY,
        INT4_ARRAY, INT4_ARRAY, INT8_ARRAY, INT4_ARRAY, UUID_ARRAY, TID_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY,
        UUID_ARRAY, UUID_ARRAY);
    job_settle_gone = prepared "job/settle" "gone" (TEXT_ARRAY, INT8_ARRAY, INT4_ARRAY, UUID_ARRAY, TID_ARRAY,
        UUID_ARRAY);
    job_settle = prepared "job/settle" "any" (TEXT_ARRAY, UUID_ARRAY, INT8_ARRAY, INT8_ARRAY, TIMESTAMPTZ_ARRAY,
        TEXT_ARRAY, TEXT_ARRAY, INT4_ARRAY, INT4_ARRAY, INT8_ARRAY, TEXT_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY,
        TEXT_ARRAY, BOOL_ARRAY, INT8_ARRAY, BOOL_ARRAY, UUID_ARRAY, INT8_ARRAY, UUID_ARRAY);
    job_settle_why = prepared "job/settle" "why" (TEXT_ARRAY, UUID_ARRAY);
    job_settle_closed = prepared "job/settle" "closed" (UUID_ARRAY);
    promote_due = ordered "job/promote" "due" (INT8, TIMESTAMPTZ);
    promote_next = ordered "job/promote" "next" (TIMESTAMPTZ);
    promote_chores = planned "job/promote" "chores" (TIMESTAMPTZ);
    promote_admit = ordered "job/promote" "admit" (INT8);
    rescue_lost = planned "job/rescue" "lost" (INT8);
    rescue_clear = planned "job/rescue" "clear" ();
    rescue_permits = planned "job/rescue" "permits" ();
    job_lanes = ordered "job/lanes" (TEXT, TEXT_ARRAY);
    job_overdue = planned "job/overdue" (TEXT, INT8);
    job_outstanding = ordered "job/outstanding" (TEXT, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8);
    job_moved = prepared "job/move" "moved" (TEXT, UUID, INT8, INT8, TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, TEXT, TEXT,
        BYTEA, TEXT, INT8, INT8, BOOL, UUID, TIMESTAMPTZ, TEXT, TEXT, BOOL, TEXT, BOOL);
    job_holder = prepared "job/move" "holder" (TEXT, TEXT);
    job_mark = prepared "job/move" "mark" (TEXT, UUID, INT8, TIMESTAMPTZ, TEXT, TEXT);
    job_note = prepared "job/move" "note" (TEXT, UUID, INT8, TEXT, TEXT, TEXT);
    job_lookup = prepared "job/lookup" (TEXT_ARRAY, UUID_ARRAY);
    job_list = planned "job/list" "all" (TEXT, TEXT, TEXT, TEXT, TEXT, UUID, INT8);
    job_list_waiting = planned "job/list" "waiting" (TEXT, TEXT, TEXT, TEXT, TEXT, UUID, INT8);
    job_list_running = planned "job/list" "running" (TEXT, TEXT, TEXT, TEXT, TEXT, UUID, INT8);
    job_list_wanted = planned "job/list" "wanted" (TEXT, TEXT, TEXT, TEXT, TEXT, UUID, INT8);
    job_list_over = planned "job/list" "over" (TEXT, TEXT, TEXT, TEXT, TEXT, UUID, INT8);
    job_list_paused = planned "job/list" "paused" (TEXT, TEXT, TEXT, TEXT, TEXT, UUID, INT8);
    queue_pause = planned "queue/pause" (TEXT, TEXT, BOOL, TEXT, TEXT);
    queue_limit = planned "queue/limit" (TEXT, TEXT, INT4, INT4, INT8, INT4, TEXT, BOOL);
    limit_keys_set = planned "queue/limit_keys" "set" (TEXT, TEXT, INT4, TEXT);
    queue_tune = planned "queue/tune" "set" (TEXT, TEXT, INT8, INT8, INT8, TEXT);
    queue_tunings = planned "queue/tune" "list" (TEXT);
    limit_keys_stir = planned "queue/limit_keys" "stir" (TEXT);
    permits_read = prepared "queue/permits" "read" (TEXT, TEXT, UUID);
    permits_grant = prepared "queue/permits" "grant" (TEXT, TEXT, INT8, INT8, TIMESTAMPTZ, INT4, BOOL, UUID, INT8, INT4,
        INT4, INT4, INT4, TIMESTAMPTZ, TIMESTAMPTZ);
    queue_list = planned "queue/list" (TEXT, INT8);
    run_append_entry = prepared "run/append" "entry" (TEXT, UUID, UUID, INT8, INT4, TIMESTAMPTZ, TEXT, TEXT, TEXT, TEXT,
        BYTEA);
    run_append_entries = prepared "run/append" "entries" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY, INT8_ARRAY, INT4_ARRAY,
        INT4_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY);
    run_append = prepared "run/append" "any" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY, INT8_ARRAY, INT4_ARRAY, INT4_ARRAY,
        TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY, INT4_ARRAY, UUID_ARRAY,
        INT4_ARRAY, INT4_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY,
        TEXT_ARRAY, INT8_ARRAY, INT4_ARRAY, INT4_ARRAY, INT4_ARRAY, UUID_ARRAY, TID_ARRAY, INT8_ARRAY, INT8_ARRAY,
        TIMESTAMPTZ_ARRAY, TEXT_ARRAY, INT4_ARRAY, INT4_ARRAY, INT8_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY,
        UUID_ARRAY, UUID_ARRAY, TEXT, UUID, UUID, TEXT_ARRAY);
    run_append_fresh = prepared "run/append" "fresh" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY, INT8_ARRAY, INT4_ARRAY,
        INT4_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY, INT4_ARRAY,
        UUID_ARRAY, INT4_ARRAY, INT4_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
        BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT4_ARRAY, INT4_ARRAY, INT4_ARRAY, UUID_ARRAY, TID_ARRAY, INT8_ARRAY,
        INT8_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, INT4_ARRAY, INT4_ARRAY, INT8_ARRAY, BYTEA_ARRAY, TEXT_ARRAY,
        INT8_ARRAY, UUID_ARRAY, UUID_ARRAY, TEXT, UUID, UUID, TEXT_ARRAY);
    run_append_ordered = prepared "run/append" "ordered" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY, INT8_ARRAY,
        INT4_ARRAY, INT4_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY,
        INT4_ARRAY, UUID_ARRAY, INT4_ARRAY, INT4_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, TEXT_ARRAY,
        TEXT_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT4_ARRAY, INT4_ARRAY, INT4_ARRAY, UUID_ARRAY, TID_ARRAY,
        INT8_ARRAY, INT8_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, INT4_ARRAY, INT4_ARRAY, INT8_ARRAY, BYTEA_ARRAY,
        TEXT_ARRAY, INT8_ARRAY, UUID_ARRAY, UUID_ARRAY, TEXT, UUID, UUID, TEXT_ARRAY);
    run_continue = planned "run/continue" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY, INT8_ARRAY, INT4_ARRAY, BYTEA_ARRAY,
        BYTEA_ARRAY, INT4_ARRAY, INT4_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
        BYTEA_ARRAY);
    run_load = prepared "run/load" (TEXT_ARRAY, UUID_ARRAY, INT4_ARRAY, INT8_ARRAY);
    run_arrived = prepared "run/arrived" (TEXT_ARRAY, UUID_ARRAY);
    run_tell = prepared "run/tell" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY);
    run_note = prepared "run/note" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY);
    run_wake = prepared "run/wake" "wake" ();
    run_fork = planned "run/fork" (TEXT_ARRAY, UUID_ARRAY, UUID_ARRAY, INT4_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY,
        BYTEA_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT4_ARRAY, INT4_ARRAY, INT4_ARRAY, INT4_ARRAY,
        BYTEA_ARRAY, INT4_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BYTEA_ARRAY,
        INT8_ARRAY);
    run_prune = planned "run/prune" (TEXT, UUID, INT8);
    rotate_jobs = planned "upkeep/prune_jobs" "rotate" ();
    prune_done = planned "upkeep/prune_jobs" "done" (INT8);
    prune_some_done = planned "upkeep/prune_jobs" "some_done" (INT8, TEXT, TEXT, TEXT, TEXT);
    prune_dead = planned "upkeep/prune_jobs" "dead" (INT8, INT8, TEXT, TEXT, TEXT);
    prune_keys = planned "upkeep/prune_jobs" "keys" (INT8);
    count_done = planned "upkeep/prune_jobs" "count_done" (INT8, TEXT, TEXT, TEXT, TEXT);
    count_dead = planned "upkeep/prune_jobs" "count_dead" (INT8, INT8, TEXT, TEXT, TEXT);
    count_keys = planned "upkeep/prune_jobs" "count_keys" (INT8);
    service_look = planned "service/look" (TEXT, TEXT, TEXT, TEXT, INT8);
    service_list = planned "service/list" (TEXT);
    service_write = planned "service/write" (TEXT, TEXT, INT8, TEXT);
    service_begin = prepared "service/begin" (TEXT, TEXT, INT8, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, UUID, TEXT, INT8, TEXT);
    service_end = prepared "service/end" (TEXT, TEXT, INT8, TEXT, INT8, TEXT, TEXT);
    service_miss = prepared "service/miss" (TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, INT8_ARRAY,
        TIMESTAMPTZ_ARRAY, TEXT_ARRAY);
    service_prune = planned "service/prune" "all" (INT8, INT8);
    service_prune_one = planned "service/prune" "one" (INT8, INT8, TEXT, TEXT);
    schedule_list = planned "schedule/list" (TEXT, TEXT, TEXT, INT8);
    schedule_due = planned "schedule/due" (TEXT, INT8);
    schedule_write = prepared "schedule/write" (TEXT, TEXT, INT8, TIMESTAMPTZ, TEXT, BYTEA, UUID_ARRAY, TEXT_ARRAY,
        TEXT_ARRAY, INT2_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY);
    schedule_remove = planned "schedule/remove" (TEXT, TEXT, INT8);
    endpoint_list = planned "endpoint/list" (TEXT, TEXT_ARRAY, TEXT, INT8);
    endpoint_write = planned "endpoint/write" (TEXT, TEXT, INT8, TEXT, TEXT, TEXT, TEXT);
    endpoint_remove = planned "endpoint/remove" (TEXT, TEXT, INT8, TEXT, TEXT);
    trigger_list = planned "trigger/list" (TEXT, TEXT_ARRAY, TEXT, INT8);
    trigger_heard = planned "trigger/heard" (TEXT, TEXT_ARRAY, INT8);
    trigger_write = prepared "trigger/write" (TEXT, TEXT, INT8, TEXT, BYTEA, BOOL, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
        BOOL_ARRAY, INT8_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, BYTEA_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
        TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY);
    trigger_remove = planned "trigger/remove" (TEXT, TEXT, INT8);
    transactions = planned "upkeep/check" "transactions" (TEXT_ARRAY);
    settings = planned "upkeep/check" "settings" ();
    migrations = planned "upkeep/check" "migrations" ();
    functions = planned "upkeep/check" "functions" ();
    objects = planned "upkeep/check" "objects" (TEXT_ARRAY);
    tokens = planned "upkeep/check" "tokens" (INT8);
}

/// A statement as the tests of plans see it.
#[cfg(feature = "conformance")]
#[derive(Debug)]
pub struct Planned {
    /// What it is called here.
    pub name: &'static str,
    /// Its text.
    pub text: String,
    /// The types of its parameters, as SQL spells them.
    pub types: Vec<String>,
    /// Whether it is prepared and planned once, on a connection with `keyed_options`.
    pub prepared: bool,
}

/// Every statement of a schema, for the tests of their plans.
#[cfg(feature = "conformance")]
pub fn planned(schema: &str) -> Vec<Planned> {
    let statements = Statements::new(schema, false, false);
    let spelt = |ty: &Type| match ty.name().strip_prefix('_') {
        Some(element) => format!("{element}[]"),
        None => ty.name().to_owned(),
    };
    let planned = |(name, statement): (&'static str, &Statement)| Planned {
        name,
        text: statement.text.clone(),
        types: statement.types.iter().map(spelt).collect(),
        prepared: statement.prepared,
    };
    statements.all().into_iter().map(planned).collect()
}

/// Which cluster answers, and how often it was promoted. Asked on every new connection, whatever the schema.
pub(super) fn lineage() -> String {
    fill(step(postgres_sql!("upkeep/check"), "lineage"), "", false, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_found_and_filled_in() {
        let (direct, pooled) =
            (Statements::new("select", true, false), Statements::new("select", true, true));
        assert!(
            pooled.claim_new.text.contains("lock_timeout") && !direct.claim_new.text.contains("lock_timeout")
        );
        let all = pooled.all().into_iter().enumerate().chain(direct.all().into_iter().enumerate());
        for (number, (name, statement)) in all {
            let text = &statement.text;
            assert_eq!(number, statement.index);
            assert!(!text.trim().is_empty(), "{name} is empty: its step is missing");
            assert!(!text.contains('{') && !text.contains("--"), "{name}: {text}");
            let last = statement.types.len();
            assert!(last == 0 || text.contains(&format!("${last}::")), "{name} has other parameters");
            assert!(!text.contains(&format!("${}", last + 1)), "{name} has more parameters");
        }
        let sql = enlisted("select", false, &Arc::default());
        for text in [sql.guard, sql.claim_in, sql.settle_in].concat() {
            assert!(text.contains("\"select\".") && text.contains("clock_timestamp()"));
        }
    }
}
