//! The statements of the store, cut out of their files once.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::StoreKind;
use crate::enlist::EnlistSql;
use crate::sql::{sqlite_sql, step};

/// The part of a file that stands before its first step, or the file itself.
macro_rules! text {
    ($file:literal) => {
        sqlite_sql!($file)
    };
    ($file:literal, $step:literal) => {
        step(sqlite_sql!($file), $step)
    };
}

macro_rules! statements {
    ($($name:ident = $file:literal $(, $step:literal)?;)*) => {
        /// The text of every statement.
        pub(crate) struct Statements {
            $(pub(crate) $name: &'static str,)*
        }

        /// The text of every statement.
        pub(crate) static SQL: LazyLock<Statements> =
            LazyLock::new(|| Statements { $($name: text!($file $(, $step)?),)* });

        #[cfg(test)]
        impl Statements {
            /// Every statement with its name.
            pub(crate) fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

statements! {
    lease_places = "lease/acquire", "read";
    lease_ahead = "lease/acquire", "ahead";
    lease_grant = "lease/acquire", "grant";
    lease_regrant = "lease/acquire", "regrant";
    lease_ended = "lease/acquire", "history";
    lease_renew = "lease/renew";
    lease_release_read = "lease/release", "read";
    lease_release = "lease/release", "release";
    lease_released = "lease/release", "history";
    lease_wait_tidy = "lease/wait", "tidy";
    lease_wait_keep = "lease/wait", "keep";
    lease_wait_last = "lease/wait", "last";
    lease_wait_take = "lease/wait", "take";
    lease_leave = "lease/leave";
    lease_break = "lease/break", "break";
    lease_broken = "lease/break", "history";
    lease_lookup = "lease/lookup";
    lease_list = "lease/list", "of_namespace";
    lease_list_all = "lease/list", "of_all";
    once_insert = "once/claim", "insert";
    once_read = "once/claim", "read";
    once_told = "once/claim", "told";
    once_reclaim = "once/claim", "reclaim";
    once_expire = "once/claim", "expire";
    once_history = "once/claim", "history";
    once_renew = "once/renew";
    once_settle_read = "once/settle", "read";
    once_settle = "once/settle", "settle";
    once_settled = "once/settle", "history";
    once_resolve = "once/resolve";
    once_lookup = "once/lookup";
    once_list = "once/list", "of_namespace";
    once_list_all = "once/list", "of_all";
    once_list_open = "once/list", "open_of_namespace";
    once_list_all_open = "once/list", "open_of_all";
    history_list = "history/list", "list";
    history_live = "history/list", "live";
    prune_history = "upkeep/prune", "history";
    prune_live = "upkeep/prune", "live";
    prune_live_to = "upkeep/prune", "live_to";
    prune_told = "upkeep/prune", "told";
    prune_once = "upkeep/prune", "once";
    prune_leases = "upkeep/prune", "leases";
    prune_lease_to = "upkeep/prune", "lease_to";
    prune_waiting = "upkeep/prune", "waiting";
    session_read = "session/open", "read";
    session_insert = "session/open", "insert";
    session_renew = "session/renew", "renew";
    session_noted = "session/renew", "noted";
    session_any_paused = "session/renew", "any";
    session_paused = "session/renew", "paused";
    session_claims = "session/renew", "claims";
    session_end = "session/close", "end";
    session_forget = "session/close", "forget";
    session_list = "session/list";
    session_drain = "session/drain";
    job_over = "job/enqueue", "over";
    job_known = "job/enqueue", "known";
    job_holder = "job/enqueue", "holder";
    job_insert = "job/enqueue", "insert";
    job_key = "job/enqueue", "key";
    job_ready = "job/enqueue", "ready";
    job_later = "job/enqueue", "later";
    job_seated = "job/enqueue", "seated";
    job_seats = "job/enqueue", "seats";
    job_let_in = "job/enqueue", "let_in";
    job_held = "job/enqueue", "held";
    job_next = "job/enqueue", "next";
    job_replace = "job/enqueue", "replace";
    job_push_out = "job/enqueue", "push_out";
    claim_again = "job/claim", "again";
    claim_closed = "job/claim", "closed";
    claim_ready = "job/claim", "ready";
    claim_front = "job/claim", "front";
    claim_take = "job/claim", "take";
    claim_ageing = "job/claim", "ageing";
    claim_rank = "job/claim", "rank";
    claim_of_rank = "job/claim", "of_rank";
    claim_take_of_rank = "job/claim", "take_of_rank";
    claim_read = "job/claim", "read";
    claim_find = "job/claim", "find";
    claim_insert = "job/claim", "claim";
    begin = "job/begin", "begin";
    begin_free = "job/begin", "free";
    settle_hanging = "job/settle", "hanging";
    settle_slot = "job/settle", "slot";
    settle_keep = "job/settle", "keep";
    settle_remove = "job/settle", "remove";
    settle_delete = "job/settle", "delete";
    settle_read = "job/settle", "read";
    settle_over = "job/settle", "over";
    settle_write = "job/settle", "write";
    settle_move = "job/settle", "move";
    settle_note = "job/settle", "note";
    settle_free = "job/settle", "free";
    job_leave = "job/settle", "leave";
    settle_claim = "job/settle", "claim";
    settle_runs = "job/settle", "runs";
    settle_finish = "job/settle", "finish";
    progress = "job/progress";
    run_holds = "run/append", "holds";
    run_entry = "run/append", "entry";
    run_take = "run/append", "take";
    run_continue_payload = "run/continue", "payload";
    run_continue_steps = "run/continue", "steps";
    run_load = "run/load";
    run_arrived = "run/arrived";
    run_standing = "run/tell", "standing";
    run_told = "run/tell", "told";
    run_note = "run/note";
    run_wake = "run/wake", "unknown";
    run_wake_failed = "run/wake", "failed";
    run_fork_reach = "run/fork", "reach";
    run_fork_token = "run/fork", "token";
    run_prune_next = "run/prune", "next";
    run_prune_known = "run/prune", "known";
    run_prune_journal = "run/prune", "journal";
    run_prune_inbox = "run/prune", "inbox";
    promote_next = "job/promote", "next";
    promote_due = "job/promote", "due";
    promote_take = "job/promote", "take";
    promote_read = "job/promote", "read";
    rescue_any = "job/rescue", "any";
    rescue_claims = "job/rescue", "claims";
    rescue_owner = "job/rescue", "owner";
    rescue_noted = "job/rescue", "noted";
    rescue_gone = "job/rescue", "gone";
    lanes_next = "job/lanes";
    job_overdue = "job/overdue";
    outstanding_later = "job/outstanding", "later";
    outstanding_held = "job/outstanding", "held";
    outstanding_runs = "job/outstanding", "runs";
    move_ready = "job/move", "ready";
    move_later = "job/move", "later";
    move_held = "job/move", "held";
    move_note = "job/move", "note";
    move_mark = "job/move", "mark";
    lookup_live = "job/lookup", "live";
    lookup_over = "job/lookup", "over";
    lookup_claims = "job/lookup", "claims";
    list_namespaces = "job/list", "namespaces";
    list_live = "job/list", "live";
    list_over = "job/list", "over";
    list_wanted = "job/list", "wanted";
    list_paused = "job/list", "paused";
    queue_pause = "queue/pause";
    queue_limit = "queue/limit", "limit";
    queue_begin = "queue/limit", "begin";
    queue_limit_keys = "queue/limit_keys", "set";
    queue_line = "queue/limit_keys", "line";
    queue_tune = "queue/tune", "set";
    queue_tunings = "queue/tune", "list";
    queue_void = "queue/limit", "void";
    permit_read = "queue/permits", "read";
    permit_held = "queue/permits", "held";
    permit_one = "queue/permits", "one";
    permit_fill = "queue/permits", "fill";
    permit_grant = "queue/permits", "grant";
    permit_spend = "queue/permits", "spend";
    permit_forget = "queue/permits", "forget";
    queue_set = "queue/list", "set";
    queue_ready = "queue/list", "ready";
    queue_later = "queue/list", "later";
    queue_count = "queue/list", "count";
    queue_due = "queue/list", "due";
    queue_oldest = "queue/list", "oldest";
    queue_runs = "queue/list", "runs";
    prune_done = "upkeep/prune_jobs", "done";
    prune_dead = "upkeep/prune_jobs", "dead";
    prune_kept = "upkeep/prune_jobs", "kept";
    prune_keys = "upkeep/prune_jobs", "keys";
    count_done = "upkeep/prune_jobs", "count_done";
    count_dead = "upkeep/prune_jobs", "count_dead";
    count_keys = "upkeep/prune_jobs", "count_keys";
    dead_kept = "upkeep/prune_jobs", "dead_kept";
    tables = "upkeep/check", "tables";
    migrations = "upkeep/check", "migrations";
    migration_applied = "upkeep/check", "applied";
    migration_undone = "upkeep/check", "undone";
    meta = "upkeep/check", "meta";
    meta_opened = "upkeep/check", "opened";
    meta_doubt = "upkeep/check", "doubt";
    meta_touch = "upkeep/check", "touch";
    newest_token = "upkeep/check", "newest_token";
    triggers = "upkeep/check", "triggers";
    service_read = "service/look", "service";
    service_runners = "service/look", "runners";
    service_terms = "service/look", "terms";
    service_asked = "service/look", "asked";
    service_running = "service/look", "running";
    service_list = "service/list";
    service_make = "service/write", "make";
    service_change = "service/write", "change";
    service_begun = "service/begin", "read";
    service_earlier = "service/begin", "earlier";
    service_begin = "service/begin", "begin";
    service_end = "service/end";
    service_miss = "service/miss";
    service_prune = "service/prune", "all";
    service_prune_one = "service/prune", "one";
    schedule_list = "schedule/list";
    schedule_due = "schedule/due", "due";
    schedule_next = "schedule/due", "next";
    schedule_make = "schedule/write", "make";
    schedule_change = "schedule/write", "change";
    schedule_remove = "schedule/remove";
    endpoint_list = "endpoint/list";
    endpoint_make = "endpoint/write", "make";
    endpoint_change = "endpoint/write", "change";
    endpoint_told = "endpoint/write", "told";
    endpoint_remove = "endpoint/remove";
    trigger_anybody = "trigger/overhear", "anybody";
    trigger_overheard = "trigger/overhear", "overheard";
    trigger_list = "trigger/list";
    trigger_seen = "trigger/heard", "seen";
    trigger_listening = "trigger/heard", "listening";
    trigger_make = "trigger/write", "make";
    trigger_change = "trigger/write", "change";
    trigger_unlistened = "trigger/write", "unlistened";
    trigger_listened = "trigger/write", "listened";
    trigger_acted_on = "trigger/write", "acted_on";
    trigger_gone = "trigger/remove", "gone";
    trigger_absent = "trigger/remove", "absent";
    trigger_unheard = "trigger/remove", "unheard";
}

/// The statements that join a caller's transaction.
pub(crate) fn enlist() -> EnlistSql {
    let steps = |file, names: &[&str]| names.iter().map(|name| step(file, name).into()).collect();
    EnlistSql {
        kind: StoreKind::Sqlite,
        guard: steps(sqlite_sql!("lease/guard"), &["lock", "check"]),
        claim_in: steps(sqlite_sql!("once/claim_in"), &["lock", "clocks", "ended", "claim", "read"]),
        settle_in: steps(sqlite_sql!("once/settle_in"), &["settle", "history"]),
        server_clock: Arc::default(),
        jobs: enlisted_jobs(),
    }
}

/// What is done about jobs in a caller's transaction: mostly what the store itself does.
fn enlisted_jobs() -> BTreeMap<&'static str, Arc<str>> {
    let (enqueue, settle) = (sqlite_sql!("job/enqueue_in"), sqlite_sql!("job/settle_in"));
    let own = ["lock", "insert", "waiting", "existing"].map(|name| (name, step(enqueue, name)));
    let runs = [("run_queue", "queue"), ("run_tell", "tell"), ("run_write", "write")];
    let runs = runs.map(|(name, of)| (name, step(sqlite_sql!("run/tell_in"), of)));
    let shared = [
        ("write", step(settle, "write")),
        ("over", SQL.job_over),
        ("overheard", SQL.trigger_overheard),
        ("known", SQL.job_known),
        ("holder", SQL.job_holder),
        ("key", SQL.job_key),
        ("ready", SQL.job_ready),
        ("later", SQL.job_later),
        ("seated", SQL.job_seated),
        ("seats", SQL.job_seats),
        ("let_in", SQL.job_let_in),
        ("held", SQL.job_held),
        ("next", SQL.job_next),
        ("replace", SQL.job_replace),
        ("push_out", SQL.job_push_out),
        ("move_ready", SQL.move_ready),
        ("move_later", SQL.move_later),
        ("move_held", SQL.move_held),
        ("settled", SQL.settle_over),
        ("note", SQL.settle_note),
        ("free", SQL.settle_free),
        ("slot", SQL.settle_slot),
        ("move", SQL.settle_move),
        ("delete", SQL.settle_delete),
        ("leave", SQL.job_leave),
    ];
    own.into_iter().chain(runs).chain(shared).map(|(name, text)| (name, text.into())).collect()
}
